// What the machine must have, and how each thing is recognised: by the thing itself (a library
// that the loader finds, a compiler that compiles, a program that can be run), never by the name
// of a package, because those differ from one release to the next.

import { spawnSync } from "child_process";
import { mkdtempSync, readdirSync, rmdirSync, statSync, unlinkSync } from "fs";
import { tmpdir } from "os";
import { join } from "path";
import { Failure, findProgram } from "./process.mjs";

/** How `ldconfig -p` names this machine's own libraries. */
const loaderTag = { x64: "x86-64", arm64: "AArch64" }[process.arch] || "";

function loaderLists(soname) {
  const ldconfig = findProgram("ldconfig");
  if (ldconfig === null) return false;
  const listed = spawnSync(ldconfig, ["-p"], { encoding: "utf8" }).stdout || "";
  return listed
    .split("\n")
    .some((line) => line.includes(loaderTag) && line.trim().startsWith(`${soname} `));
}

function hasLibrary(sonames) {
  const multiarch = { x64: "x86_64-linux-gnu", arm64: "aarch64-linux-gnu" }[process.arch] || "";
  const folders = ["/usr/local/lib64", "/usr/local/lib", `/usr/lib/${multiarch}`, "/usr/lib64"];
  const own = (process.env.LD_LIBRARY_PATH || "").split(":").filter((folder) => folder !== "");
  return sonames.some((soname) => {
    if (loaderLists(soname)) return true;
    return [...own, ...folders].some((folder) => {
      try {
        return statSync(join(folder, soname)).isFile();
      } catch (_) {
        return false;
      }
    });
  });
}

/** Whether the compiler builds a program that uses what the C library of kqtime uses. */
function compiles(more = []) {
  const [compiler, ...flags] = (process.env.CC || "cc").split(/\s+/).filter(Boolean);
  const folder = mkdtempSync(join(tmpdir(), "kqtime-setup-"));
  const output = join(folder, "probe");
  const source = [
    "#include <stdatomic.h>",
    "#include <stdio.h>",
    "#include <sys/socket.h>",
    "#include <linux/tcp.h>",
    "int main(void) { return printf(\"%d\", (int)sizeof(struct tcphdr)) < 0; }",
    "",
  ].join("\n");
  const words = [...flags, ...more, "-std=c11", "-pthread", "-x", "c", "-o", output, "-", "-ldl"];
  const compiled = spawnSync(compiler, words, {
    input: source,
    stdio: ["pipe", "ignore", "ignore"],
  });
  try {
    unlinkSync(output);
  } catch (_) {
    // Nothing was built.
  }
  rmdirSync(folder);
  return compiled.status === 0;
}

/** Whether the distribution's Python, or the one on PATH, has these modules. */
function pythonHas(...modules) {
  const words = ["-c", `import ${modules.join(", ")}`];
  return ["/usr/bin/python3", "python3"].some(
    (python) => spawnSync(python, words, { stdio: "ignore" }).status === 0,
  );
}

function canCompile() {
  if (compiles()) return true;
  if (!process.env.CC) return false;
  throw new Failure(`CC=${process.env.CC} does not build a C11 program: unset it, or correct it`);
}

/** Debian keeps PostgreSQL's server programs off PATH, one folder a major version. */
function postgresFolders() {
  try {
    return readdirSync("/usr/lib/postgresql").map((version) => `/usr/lib/postgresql/${version}/bin`);
  } catch (_) {
    return [];
  }
}

function programs(names, apt, dnf, folders = () => []) {
  return {
    what: names.join(", "),
    present: () => names.every((name) => findProgram(name, folders()) !== null),
    apt,
    dnf,
  };
}

/** For kqtime itself and its demo. `a|b` as a package: the first that the release has. */
const base = [
  {
    what: "a C compiler",
    present: canCompile,
    apt: ["gcc", "libc6-dev"],
    dnf: ["gcc", "glibc-devel", "kernel-headers"],
  },
  {
    what: "libpcap",
    present: () => hasLibrary(["libpcap.so.0.8", "libpcap.so.1"]),
    apt: ["libpcap0.8"],
    dnf: ["libpcap"],
  },
  { what: "zlib", present: () => hasLibrary(["libz.so.1"]), apt: ["zlib1g"], dnf: ["zlib"] },
  // The demo's shaped link between two namespaces.
  programs(["ip", "tc"], ["iproute2"], ["iproute", "iproute-tc"]),
  programs(["unshare", "nsenter"], ["util-linux"], ["util-linux"]),
];

/** What the tests measure, shape and compare with. */
const forTests = [
  programs(["tcpdump"], ["tcpdump"], ["tcpdump"]),
  programs(["nft"], ["nftables"], ["nftables"]),
  programs(["ethtool"], ["ethtool"], ["ethtool"]),
  programs(["ps", "sysctl"], ["procps"], ["procps-ng"]),
  programs(["setpriv"], ["util-linux"], ["util-linux"]),
  programs(["mount", "umount"], ["mount"], ["util-linux"]),
  programs(["setcap", "capsh"], ["libcap2-bin"], ["libcap"]),
  programs(["strace"], ["strace"], ["strace"]),
  programs(["curl"], ["curl"], ["curl"]),
  programs(["openssl"], ["openssl"], ["openssl"]),
  programs(["python3"], ["python3"], ["python3"]),
  {
    what: "CPython's own tests",
    present: () => pythonHas("test.test_socket"),
    // Debian names it by python3's version: a regular expression (apt-get(8)).
    apt: ["^libpython3[.].*-testsuite$"],
    dnf: ["python3-test"],
  },
  {
    what: "Tornado's and Twisted's own tests",
    present: () => pythonHas("tornado.test.runtests", "twisted.internet.test", "twisted.web.test"),
    apt: ["python3-tornado", "python3-twisted"],
    dnf: ["python3-tornado", "python3-twisted"],
  },
  programs(["c++"], ["g++"], ["gcc-c++"]),
  {
    what: "the compiler's sanitizers",
    present: () => ["address", "undefined", "thread"].every((name) => compiles([`-fsanitize=${name}`])),
    // With Debian's gcc they come by themselves.
    apt: ["gcc"],
    dnf: ["libasan", "libubsan", "libtsan"],
  },
  programs(["pkg-config"], ["pkg-config"], ["pkgconf-pkg-config"]),
  programs(["xz"], ["xz-utils"], ["xz"]),
  programs(["gzip"], ["gzip"], ["gzip"]),
  programs(["pdftotext", "pdffonts"], ["poppler-utils"], ["poppler-utils"]),
  programs(["valgrind"], ["valgrind"], ["valgrind"]),
  // A file system with a quota.
  programs(["mkfs.btrfs", "btrfs"], ["btrfs-progs"], ["btrfs-progs"]),
  programs(["iperf3"], ["iperf3"], ["iperf3"]),
  programs(["nginx"], ["nginx"], ["nginx"]),
  programs(["tor"], ["tor"], ["tor"]),
  programs(
    ["redis-server", "redis-cli", "redis-benchmark"],
    ["redis-server", "redis-tools"],
    ["redis|valkey-compat-redis"],
  ),
  programs(
    ["postgres", "initdb", "psql"],
    ["postgresql"],
    ["postgresql-server", "postgresql"],
    postgresFolders,
  ),
];

/** What the benchmarks use besides. Fedora has no wrk. */
const forBench = [programs(["wrk"], ["wrk"], [])];

/** The needs that this machine does not meet. */
export function missingNeeds(withTests, withBench) {
  const all = [...base, ...(withTests ? forTests : []), ...(withBench ? forBench : [])];
  return all.filter((need) => !need.present());
}
