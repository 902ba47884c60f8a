// Opening a live capture, and what is said when it cannot be opened. Each case is a process of its
// own: privileges, libraries and memory belong to a process.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Capture, SNAPLEN_DEFAULT } from "../../src/ffi/libpcap.ts";
import { needsNamespaces, needsRoot } from "../lib/privilege.ts";
import { isRoot, lacks, reason, testUnless } from "../lib/requires.ts";
import { Lab, run } from "./lab.ts";

const folder = mkdtempSync(join(tmpdir(), "kqopen-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Opened {
  error?: { code: string; message: string; exitCode: number };
  linkType: number;
  bufferBytes: number;
  warnings: string[];
  fd: number;
  snaplen: number;
}

interface Case {
  prefix?: string[];
  env?: Record<string, string>;
  cwd?: string;
  [option: string]: unknown;
}

function open({ prefix = [], env = {}, cwd = folder, ...options }: Case): Opened {
  const script = join(import.meta.dir, "open-capture.ts");
  const done = Bun.spawnSync([...prefix, process.execPath, script, JSON.stringify(options)], {
    cwd,
    env: { ...process.env, ...env },
  });
  const text = done.stdout.toString();
  if (text === "") throw new Error(done.stderr.toString());
  return JSON.parse(text) as Opened;
}

describe("the library", () => {
  test("missing: every path tried and the packages", () => {
    const { error } = open({ env: { KQTIME_LIBPCAP: "/none/libpcap.so.7" } });
    expect(error?.code).toBe("E_LIBRARY");
    expect(error?.message).toContain("/none/libpcap.so.7");
    expect(error?.message).toContain("KQTIME_LIBPCAP");
    expect(error?.exitCode).toBe(125);
    // A name that no folder of the loader holds, nor the current one.
    writeFileSync(join(folder, "libkqnone.so"), "not a library");
    const bare = open({ env: { KQTIME_LIBPCAP: "libkqnone.so" } });
    expect(bare.error?.message).toContain("libkqnone.so: cannot open shared object file");
  });

  test("another library: what it lacks", () => {
    const { error } = open({ env: { KQTIME_LIBPCAP: "libc.so.6" } });
    expect(error?.message).toContain("pcap_lib_version");
  });

  test("a library in the current folder is not taken for the system's", async () => {
    const { openLibrary } = await import("../../src/ffi/library.ts");
    const before = process.cwd();
    process.chdir(folder);
    try {
      writeFileSync(join(folder, "libkqhere.so.1"), "\x7fELF");
      openLibrary({
        name: "libkqhere",
        environment: "KQTIME_LIBKQHERE",
        sonames: ["libkqhere.so.1", "libkqhere.so.2"],
        symbols: { f: { args: [], returns: "void" } },
        packages: { apt: "kqhere", dnf: "kqhere-libs" },
      });
      throw new Error("it was loaded");
    } catch (error) {
      const { message } = error as Error;
      expect(message).toContain("libkqhere.so.1: cannot open shared object file");
      expect(message).toContain("libkqhere.so.2: cannot open shared object file");
      expect(message).toContain("apt install kqhere, dnf install kqhere-libs");
    } finally {
      process.chdir(before);
    }
  });
});

describe("without the right to capture", () => {
  const drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
  const prefix = isRoot ? drop : [];
  testUnless(reason(isRoot && lacks("setpriv")), "it says what to do", () => {
    const { error } = open({ prefix });
    expect(error?.code).toBe("E_PCAP_PERMISSION");
    expect(error?.message).toContain("sudo");
    expect(error?.message).toContain("CAP_NET_RAW");
  });
});

describe("options that cannot be", () => {
  test("buffer and snaplen", () => {
    for (const bufferBytes of [0, -1, 2 ** 31, 1e300]) {
      expect(open({ bufferBytes }).error?.code).toBe("E_PCAP_MEMORY");
    }
    for (const snaplen of [0, 60, 1.5, 300_000]) {
      expect(open({ snaplen }).error?.code).toBe("E_PCAP_SNAPLEN");
    }
  });

  needsRoot("interface: those that exist are listed", () => {
    for (const name of ["nosuch0", ""]) {
      const { error } = open({ interface: name });
      expect(error?.code).toBe("E_PCAP_INTERFACE");
      expect(error?.message).toContain("any, lo");
    }
  });

  needsNamespaces("an interface that is down", () => {
    using lab = new Lab();
    run("ip", "-n", lab.left, "link", "set", "va", "down");
    const { error } = open({ prefix: lab.prefix(lab.left), interface: "va" });
    expect(error?.code).toBe("E_PCAP_INTERFACE");
    expect(error?.message).toContain("ip link set dev va up");
  });

  needsRoot("filter: the expression and libpcap's own words", () => {
    for (const filter of ["tcp and prot 22", "tcp) or (udp", "port nosuchport"]) {
      const { error } = open({ filter });
      expect(error?.code).toBe("E_PCAP_FILTER");
      expect(error?.message).toContain(`'${filter}'`);
      expect(error?.message).not.toContain("ip6[6]");
    }
    expect(open({ filter: "port nosuchport" }).error?.message).toContain("nosuchport");
  });
});

describe("opened", () => {
  needsRoot("and closed a hundred times: no descriptor and no mapping stays", () => {
    const count = (): number[] => [
      readdirSync("/proc/self/fd").length,
      readFileSync("/proc/self/maps", "latin1").split("socket:[").length,
    ];
    const cycle = (): void => {
      const options = { interface: "any", filter: "tcp", bufferBytes: 1 << 20, timeoutMs: 10 };
      const capture = Capture.live(options);
      capture.next();
      capture.stats();
      capture.close();
    };
    cycle();
    const before = count();
    for (let i = 0; i < 100; i++) cycle();
    expect(count()).toEqual(before);
  });

  needsRoot("what was asked for", () => {
    const bufferBytes = 8 << 20;
    for (const change of [{}, { immediate: true }, { filter: "" }, { interface: "lo" }]) {
      const opened = open({ bufferBytes, ...change });
      expect(opened.error).toBeUndefined();
      expect(opened.warnings).toEqual([]);
      expect(opened.bufferBytes).toBeGreaterThanOrEqual(bufferBytes * 0.95);
      expect(opened.bufferBytes).toBeLessThanOrEqual(bufferBytes * 1.1);
      expect(opened.fd).toBeGreaterThan(2);
      expect(opened.snaplen).toBe(SNAPLEN_DEFAULT);
      expect(opened.linkType).toBe("interface" in change ? 1 : 276);
    }
  });

  describe("when the kernel has not the memory", () => {
    const library = join(folder, "ring-limit.so");
    const compiler = process.env.CC ?? "cc";
    const without = reason(!isRoot && "needs root", lacks(compiler));
    beforeAll(() => {
      if (without !== null) return;
      run(compiler, "-std=c11", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-shared", "-fPIC",
        join(import.meta.dir, "ring-limit.c"), "-o", library, "-ldl");
    });
    const limited = (bytes: number): Opened =>
      open({ bufferBytes: 64 << 20, env: { LD_PRELOAD: library, KQTEST_RING_BYTES: `${bytes}` } });

    testUnless(without, "it gives less, and that is said", () => {
      const { warnings, bufferBytes } = limited(32 << 20);
      expect(bufferBytes).toBeLessThanOrEqual(32 << 20);
      expect(bufferBytes).toBeGreaterThan(16 << 20);
      expect(warnings.length).toBe(1);
      expect(warnings[0]).toMatch(/gave a capture buffer of \d+ MiB instead of 64 MiB/);
    });

    testUnless(without, "it gives none: the remedy", () => {
      const { error } = limited(0);
      expect(error?.code).toBe("E_PCAP_MEMORY");
      expect(error?.message).toContain("64 MiB: ask for a smaller one");
    });
  });
});
