// `kqtime doctor` on a copy of the package that every user can read, with things taken away.

import { beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Constant } from "../../src/ring/layout.ts";
import type { Check } from "../../src/cli/doctor-checks.ts";
import { rootlessCommand } from "../../src/cli/doctor.ts";
import { isLinux, isRoot, lacks, reason, testUnless } from "../lib/requires.ts";
import { copyParts, root, runProgram, temporaryFolder } from "./folder.ts";

const nobody = 65534;
const folder = temporaryFolder();
const why = reason(
  !isLinux && "needs Linux",
  !existsSync(join(root, "build", "kqtime-launch")) && "needs the native build",
);
const whyAsRoot = reason(why ?? false, !isRoot && "needs root", lacks("setpriv"));

beforeAll(() => {
  copyParts(folder, "src", "build", "package.json");
  const bun = join(folder, "bun");
  copyFileSync(process.execPath, bun);
  chmodSync(bun, 0o755);
  runProgram(["chmod", "-R", "a+rX", folder]);
});

interface Answer {
  code: number | null;
  fit: boolean;
  checks: Check[];
  of: (name: string) => Check;
}

function doctor(prefix: string[] = [], env: Record<string, string> = {}): Answer {
  const source = `import { doctor } from "${folder}/src/cli/doctor.ts";
    process.exit(await doctor({ json: true }));`;
  const ended = runProgram([...prefix, join(folder, "bun"), "-e", source], {
    env: { PATH: process.env["PATH"], HOME: folder, ...env },
  });
  if (ended.stderr !== "") throw new Error(ended.stderr);
  const { fit, checks } = JSON.parse(ended.stdout) as { fit: boolean; checks: Check[] };
  const of = (name: string) => checks.find((check) => check.name === name)!;
  return { code: ended.code, fit, checks, of };
}

describe("doctor", () => {
  testUnless(whyAsRoot, "finds nothing missing where everything is there", () => {
    const { code, fit, checks } = doctor();
    expect(checks.filter((check) => check.verdict !== "ok")).toEqual([]);
    expect(fit).toBe(true);
    expect(code).toBe(0);
  });

  testUnless(why, "prints one line a check, and the way without root", () => {
    const source = `import { doctor } from "${folder}/src/cli/doctor.ts"; process.exit(await doctor());`;
    const { stdout } = runProgram([join(folder, "bun"), "-e", source]);
    const [checks, way] = stdout.split("\n\n");
    const verdicts = checks!.split("\n").slice(0, -1);
    expect(verdicts).toHaveLength(doctor().checks.length);
    for (const line of verdicts) expect(line).toMatch(/^(ok     |missing|limited)  \S/);
    expect(checks!.split("\n").at(-1)).toMatch(/^kqtime can(not)? measure here/);
    expect(way).toContain("--ambient-caps=+net_raw");
  });

  testUnless(why, "a library that cannot be loaded is named, with its packages", () => {
    const { code, of } = doctor([], { KQTIME_LIBPCAP: "/nonexistent.so", KQTIME_LIBZ: "none.so" });
    expect(of("libpcap").verdict).toBe("missing");
    expect(of("libpcap").finding).toContain("/nonexistent.so");
    expect(of("CAP_NET_RAW").verdict).toBe("missing");
    // Without it there are no compressed logs, but there is a measurement.
    expect(of("libz").verdict).toBe("limited");
    expect(code).toBe(1);
  });

  testUnless(whyAsRoot, "root without CAP_NET_RAW is told so", () => {
    const { code, of } = doctor(["setpriv", "--bounding-set=-net_raw"]);
    expect(of("CAP_NET_RAW")).toMatchObject({ verdict: "missing" });
    expect(of("CAP_NET_RAW").remedy).toContain("--cap-add=NET_RAW");
    expect(code).toBe(1);
  });

  const asNobody = ["setpriv", `--reuid=${nobody}`, `--regid=${nobody}`, "--clear-groups"];

  testUnless(whyAsRoot, "a user without the capability is told how to get it", () => {
    const { code, of } = doctor(asNobody);
    expect(of("CAP_NET_RAW").verdict).toBe("missing");
    expect(of("CAP_NET_RAW").remedy).toContain("sudo");
    expect(code).toBe(1);
  });

  testUnless(whyAsRoot, "the way without root that it prints works", () => {
    const flags = rootlessCommand().match(/--(inh|ambient)-caps=\S+/g)!;
    expect(flags).toHaveLength(2);
    const { code, of } = doctor([...asNobody, ...flags]);
    expect(of("CAP_NET_RAW")).toMatchObject({ verdict: "ok" });
    expect(code).toBe(0);
  });

  testUnless(whyAsRoot, "memory that cannot be had is missing", () => {
    const { code, of } = doctor(["sh", "-c", 'ulimit -f 100; exec "$0" "$@"']);
    expect(of("ring memory").verdict).toBe("missing");
    expect(code).toBe(1);
  });

  testUnless(whyAsRoot, "a /proc of another pid namespace is missing", () => {
    const { of } = doctor(["unshare", "--pid", "--fork"]);
    expect(of("namespaces").verdict).toBe("missing");
  });

  testUnless(whyAsRoot, "a library that sudo's caller cannot read is missing", () => {
    const build = join(folder, "build");
    chmodSync(build, 0o700);
    const env = { SUDO_UID: String(nobody), SUDO_GID: String(nobody), SUDO_USER: "nobody" };
    const { of, code } = doctor([], env);
    chmodSync(build, 0o755);
    expect(of("native build").verdict).toBe("missing");
    expect(of("native build").finding).toContain("nobody");
    expect(code).toBe(1);
    expect(doctor([], env).of("native build").verdict).toBe("ok");
  });

  testUnless(why, "a build that is not there is missing", () => {
    const build = join(folder, "build");
    rmSync(build, { recursive: true });
    const { of, code } = doctor();
    mkdirSync(build);
    copyParts(folder, "build");
    expect(of("native build").verdict).toBe("missing");
    expect(of("native build").finding).toContain("npm run setup");
    expect(code).toBe(1);
  });
});

test("the memory that is tried is that of a whole ring", async () => {
  const { ringBytes } = await import("../../src/cli/doctor-checks.ts");
  const { headerBytes, slotBytes, entryBytes } = Constant;
  expect(ringBytes(65536)).toBe(headerBytes + 65536 * slotBytes + 16384 * entryBytes);
  expect(ringBytes(64)).toBe(headerBytes + 64 * slotBytes + 64 * entryBytes);
});
