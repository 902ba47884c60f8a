// tools/setup.mjs on copies of the package, with stand-ins for npm and the machine. Installing
// for real needs a fresh machine; here is what a user meets on one that has, or cannot get, things.

import { beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  lstatSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { isLinux, isRoot, lacks, reason, testUnless } from "../lib/requires.ts";
import { copyParts, root, runProgram, temporaryFolder, writeProgram } from "./folder.ts";

const needsNode = reason(lacks("node"), !isLinux && "needs Linux");
const needsUsers = reason(lacks("node", "setpriv"), !isLinux && "needs Linux", !isRoot && "needs root");
const nobody = 65534;
const asNobody = ["setpriv", `--reuid=${nobody}`, `--regid=${nobody}`, "--clear-groups"];

/** Bun where every user reaches it, also when this package lies in a folder of root's. */
const bunForAll = join(temporaryFolder(), "bun");
beforeAll(() => {
  copyFileSync(process.execPath, bunForAll);
  chmodSync(bunForAll, 0o755);
});

/** A package whose demo and tests tell how they were started. */
function tree() {
  const folder = temporaryFolder();
  const kq = join(folder, "kq");
  copyParts(kq, "package.json", "package-lock.json", ".npmrc", "tools/setup", "tools/setup.mjs");
  writeFileSync(
    join(kq, "kqtime.ts"),
    `console.log("demo", process.getuid!(), process.argv.slice(2).join(" "));
    require("node:fs").writeFileSync(import.meta.dir + "/left-behind", "");
    process.exit(Number(process.env.DEMO_EXIT ?? 0));`,
  );
  writeFileSync(join(kq, "tools", "test.ts"), 'console.log("tests", process.argv.slice(2));');
  writeFileSync(
    join(kq, "tools", "build-native.sh"),
    'cd "$(dirname "$0")/.." || exit 1\n[ -e built ] || { echo building >&2; : >built; }\n',
  );
  // npm, as far as the set-up sees it: packages in their locked versions, and a Bun.
  writeProgram(
    join(folder, "bin", "npm"),
    `#!/bin/sh
echo "npm $*" >>${folder}/npm-calls
rm -rf "${kq}/node_modules"
exec node -e '
  const fs = require("fs");
  process.chdir("${kq}");
  const { packages } = JSON.parse(fs.readFileSync("package-lock.json", "utf8"));
  for (const [at, { version }] of Object.entries(packages)) {
    if (at === "") continue;
    fs.mkdirSync(at, { recursive: true });
    fs.writeFileSync(at + "/package.json", JSON.stringify({ version }));
  }
  for (const at of ["bun/bin", ".bin"]) fs.mkdirSync("node_modules/" + at, { recursive: true });
  fs.symlinkSync("${bunForAll}", "node_modules/bun/bin/bun.exe");
  fs.symlinkSync("../bun/bin/bun.exe", "node_modules/.bin/bun");
'
`,
  );
  const env: Record<string, string | undefined> = {
    ...process.env,
    PATH: `${join(folder, "bin")}:${process.env["PATH"]}`,
    npm_execpath: undefined,
    CC: undefined,
    CI: "true",
  };
  const node = Bun.which("node") ?? "node";
  return {
    folder,
    kq,
    env,
    npmCalls: () =>
      existsSync(join(folder, "npm-calls"))
        ? readFileSync(join(folder, "npm-calls"), "utf8").trim().split("\n")
        : [],
    setup: (args: string[], prefix: string[] = [], more: Record<string, string> = {}) =>
      runProgram([...prefix, node, join(kq, "tools", "setup.mjs"), ...args], {
        env: { ...env, ...more },
      }),
  };
}

describe("setup.mjs", () => {
  testUnless(needsNode, "installs and builds once, then nothing", () => {
    const it = tree();
    const first = it.setup([]);
    expect(first.code).toBe(0);
    expect(first.stderr).toContain("setup: installing into node_modules with npm: ");
    expect(first.stderr).toContain("cac@");
    expect(first.stderr).toContain("building");
    const second = it.setup([]);
    expect(second.stderr).not.toMatch(/installing|building/);
    expect(second.code).toBe(0);
    expect(it.npmCalls()).toEqual(["npm ci --include=dev"]);
  });

  testUnless(needsNode, "installs again when a locked package is missing or of another version", () => {
    const it = tree();
    it.setup([]);
    const manifest = join(it.kq, "node_modules", "cac", "package.json");
    writeFileSync(manifest, JSON.stringify({ name: "cac", version: "0.0.1" }));
    expect(it.setup([]).stderr).toMatch(/with npm: cac@\S+\n/);
    expect(it.npmCalls()).toHaveLength(2);
  });

  testUnless(needsNode, "repairs Bun where npm ran no install scripts", () => {
    const it = tree();
    it.setup([]);
    const bun = join(it.kq, "node_modules", ".bin", "bun");
    // As npm leaves it: a text in the place of the program, and a script that would replace it.
    rmSync(join(it.kq, "node_modules", "bun", "bin", "bun.exe"));
    writeProgram(join(it.kq, "node_modules", "bun", "bin", "bun.exe"), "echo not installed >&2\nexit 1\n");
    writeFileSync(
      join(it.kq, "node_modules", "bun", "install.js"),
      `const fs = require("fs"); fs.unlinkSync("bin/bun.exe"); fs.symlinkSync("${bunForAll}", "bin/bun.exe");`,
    );
    expect(runProgram(["sh", "-c", '"$0" --version', bun]).code).not.toBe(0);
    const { code, stderr } = it.setup([]);
    expect(stderr).toContain("Bun's install script was not run by npm: running it.");
    expect(code).toBe(0);
    expect(runProgram([bun, "--version"]).code).toBe(0);
  });

  testUnless(needsNode, "passes arguments and the exit code of the demo and the tests on", () => {
    const it = tree();
    const asIs = isRoot ? {} : { DEMO_EXIT: "0" };
    const demo = it.setup(["--run", "demo", "--columns", "80"], [], { DEMO_EXIT: "9", ...asIs });
    if (isRoot) {
      expect(demo.stdout).toBe("demo 0 demo --columns 80\n");
      expect(demo.code).toBe(9);
    }
    expect(it.setup(["--run", "test", "e2e"]).stdout).toContain('tests [ "e2e" ]');
  });

  testUnless(needsNode, "explains a wrong command line and a wrong CC", () => {
    const it = tree();
    expect(it.setup(["--nonsense"])).toMatchObject({
      code: 2,
      stderr: "setup: unknown argument --nonsense\n",
    });
    const wrong = it.setup([], [], { CC: "no-such-compiler" });
    expect(wrong.stderr).toBe(
      "setup: CC=no-such-compiler does not build a C11 program: unset it, or correct it\n",
    );
    expect(wrong.code).toBe(1);
  });

  testUnless(needsNode, "on macOS it installs, and says that measuring needs Linux", () => {
    const it = tree();
    const script = join(it.kq, "tools", "setup.mjs");
    const start = `Object.defineProperty(process, "platform", { value: "darwin" });
      process.argv = ["node", "${script}", "--run", "demo"]; import("${script}");`;
    const { code, stdout, stderr } = runProgram(["node", "-e", start], { env: it.env });
    expect(stderr).toMatch(/installing into node_modules with npm: .*@oven\/bun-darwin-/);
    expect(stderr).toContain("Measuring needs Linux");
    expect(stderr).not.toContain("building");
    expect(stdout).toBe("");
    expect(code).toBe(0);
  });

  testUnless(needsNode, "with an old node it says which one it needs, and installs nothing", () => {
    const it = tree();
    const script = join(it.kq, "tools", "setup.mjs");
    const start = `const versions = { ...process.versions, node: "12.22.9" };
      Object.defineProperty(process, "versions", { value: versions });
      process.argv = ["node", "${script}"]; import("${script}");`;
    const { code, stderr } = runProgram(["node", "-e", start], { env: it.env });
    expect(stderr).toMatch(/^setup: this is node 12.22.9, kqtime's set-up needs 18 or later; .*npx .*\n$/);
    expect(code).toBe(1);
    expect(it.npmCalls()).toEqual([]);
  });

  testUnless(needsUsers, "root leaves the folder of a user to that user", () => {
    const it = tree();
    runProgram(["chown", "-R", `${nobody}:${nobody}`, it.kq]);
    const { code } = it.setup(["--run", "demo"]);
    expect(code).toBe(0);
    const roots = runProgram(["find", it.kq, "-uid", "0"]).stdout;
    expect(roots).toBe("");
    expect(lstatSync(join(it.kq, "left-behind")).uid).toBe(nobody);
  });

  testUnless(needsUsers, "a folder that cannot be written is refused with one line", () => {
    const it = tree();
    const { code, stderr } = it.setup([], asNobody, { HOME: it.folder });
    expect(stderr).toBe(
      `setup: ${it.kq} cannot be written: run this as the owner of the folder (uid 0)\n`,
    );
    expect(code).toBe(1);
  });

  testUnless(needsUsers, "without sudo it says what root is to run", () => {
    const it = tree();
    chownSync(it.kq, nobody, nobody);
    // A machine on which the loader knows no library and no compiler is on PATH.
    writeProgram(join(it.folder, "bin", "ldconfig"), "#!/bin/sh\n");
    writeProgram(join(it.folder, "bin", "cc"), "#!/bin/sh\nexit 1\n");
    writeProgram(join(it.folder, "bin", "apt-get"), "#!/bin/sh\nexit 1\n");
    writeProgram(join(it.folder, "bin", "sudo"), "#!/bin/sh\nexit 1\n");
    const { code, stderr } = it.setup([], asNobody);
    expect(code).toBe(1);
    expect(stderr).toContain("setup: missing here: a C compiler");
    expect(stderr).toMatch(
      /setup: sudo cannot be used; as root, run: apt-get update && apt-get install --no-install-recommends gcc libc6-dev.*\n$/,
    );
  });

  testUnless(needsUsers, "runs the demo through sudo for a user who can use it", () => {
    const it = tree();
    runProgram(["chown", "-R", `${nobody}:${nobody}`, it.kq]);
    // A machine without user namespaces, and a sudo that says who asked, and gains nothing.
    writeProgram(join(it.folder, "bin", "unshare"), "#!/bin/sh\nexit 1\n");
    writeProgram(
      join(it.folder, "bin", "sudo"),
      '#!/bin/sh\n[ "$1" = -n ] && exit 0\nshift\necho "sudo asked"\nexec "$@"\n',
    );
    const demo = it.setup(["--run", "demo"], asNobody, { HOME: it.kq, DEMO_EXIT: "5" });
    expect(demo.stderr).toContain("captures packets: running it through sudo.");
    expect(demo.stdout).toStartWith("sudo asked\ndemo 65534 demo");
    expect(demo.code).toBe(5);
  });
});

test("package.json calls the set-up", () => {
  const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  expect(scripts).toMatchObject({
    setup: "node tools/setup.mjs",
    start: "node tools/setup.mjs --run demo",
    test: "node tools/setup.mjs --test --run test",
  });
});
