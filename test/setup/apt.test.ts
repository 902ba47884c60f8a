// tools/setup/apt-install.sh with a stand-in for apt-get: no service may start, and the machine's
// own policy-rc.d must be back afterwards, whatever happens.

import { describe, expect, test } from "bun:test";
import { existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { isLinux, reason, testUnless } from "../lib/requires.ts";
import { root, runProgram, temporaryFolder, writeProgram } from "./folder.ts";

const script = join(root, "tools", "setup", "apt-install.sh");
const why = reason(!isLinux && "needs Linux");

/** A machine whose apt-get runs `body`, with what it was asked in $@. */
function machine(body: string) {
  const folder = temporaryFolder();
  const policy = join(folder, "sbin", "policy-rc.d");
  const units = join(folder, "units");
  mkdirSync(join(folder, "sbin"), { recursive: true });
  mkdirSync(join(units, "multi-user.target.wants"), { recursive: true });
  writeProgram(
    join(folder, "bin", "apt-get"),
    `#!/bin/sh\necho "$@" >>${folder}/calls\npolicy=${policy}\nunits=${units}\n${body}\n`,
  );
  writeProgram(join(folder, "bin", "systemctl"), "#!/bin/sh\nexit 1\n");
  const env = {
    ...process.env,
    PATH: `${join(folder, "bin")}:${process.env["PATH"]}`,
    KQTIME_POLICY_RC_D: policy,
    KQTIME_SETUP_LOCK: join(folder, "lock"),
    KQTIME_SYSTEMD_UNITS: units,
  };
  return {
    folder,
    policy,
    units,
    env,
    install: () => runProgram(["sh", script, "one", "two"], { env }),
    calls: () => readFileSync(join(folder, "calls"), "utf8").trim().split("\n"),
  };
}

const installs = 'case "$*" in *-y*install*)';

describe("apt-install.sh", () => {
  testUnless(why, "forbids services while it installs, and then no more", () => {
    const it = machine(`${installs} "$policy" nginx start; echo "answer $?";; esac`);
    const { code, stdout } = it.install();
    expect(code).toBe(0);
    expect(stdout).toContain("answer 101");
    expect(readdirSync(join(it.folder, "sbin"))).toEqual([]);
    expect(it.calls().at(-1)).toMatch(/-y install --no-install-recommends one two$/);
  });

  testUnless(why, "does not update lists that know the packages", () => {
    const it = machine("exit 0");
    it.install();
    expect(it.calls().filter((call) => call.endsWith("update"))).toEqual([]);
  });

  testUnless(why, "updates lists that do not know the packages", () => {
    const it = machine(
      'case "$*" in *update*) touch "$policy.updated";; *-s*) [ -e "$policy.updated" ];; esac',
    );
    expect(it.install().code).toBe(0);
    expect(it.calls().filter((call) => call.endsWith("update"))).toHaveLength(1);
  });

  testUnless(why, "updates once and tries again when the mirror has other versions", () => {
    const it = machine(
      `case "$*" in *update*) touch "$policy.updated";; *-y*install*) [ -e "$policy.updated" ];; esac`,
    );
    expect(it.install().code).toBe(0);
    expect(it.calls().filter((call) => call.includes("-y install"))).toHaveLength(2);
  });

  testUnless(why, "puts the machine's own policy back after a failure", () => {
    const it = machine(`${installs} exit 100;; esac`);
    writeProgram(it.policy, "#!/bin/sh\nexit 104\n");
    expect(it.install().code).not.toBe(0);
    expect(readFileSync(it.policy, "utf8")).toContain("exit 104");
    expect(lstatSync(it.policy).mode & 0o777).toBe(0o755);
    expect(readdirSync(join(it.folder, "sbin"))).toEqual(["policy-rc.d"]);
  });

  testUnless(why, "puts a policy back that is a symbolic link", () => {
    const it = machine("exit 0");
    symlinkSync("/nonexistent/policy", it.policy);
    expect(it.install().code).toBe(0);
    expect(lstatSync(it.policy).isSymbolicLink()).toBe(true);
  });

  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    testUnless(why, `puts the policy back after ${signal}`, async () => {
      const it = machine(`${installs} touch "$policy.busy"; sleep 0.5;; esac`);
      writeProgram(it.policy, "#!/bin/sh\nexit 104\n");
      const child = Bun.spawn(["sh", script, "one"], {
        env: it.env,
        stdin: "ignore",
        stdout: "ignore",
        stderr: "ignore",
      });
      while (!existsSync(`${it.policy}.busy`)) await Bun.sleep(5);
      child.kill(signal);
      expect(await child.exited).toBeGreaterThan(128);
      expect(readFileSync(it.policy, "utf8")).toContain("exit 104");
    });
  }

  testUnless(why, "cleans up after a run that was killed", async () => {
    const it = machine(`${installs} touch "$policy.busy"; sleep 0.5;; esac`);
    writeProgram(it.policy, "#!/bin/sh\nexit 104\n");
    const child = Bun.spawn(["sh", script, "one"], { env: it.env, stdout: "ignore", stderr: "ignore" });
    while (!existsSync(`${it.policy}.busy`)) await Bun.sleep(5);
    child.kill("SIGKILL");
    await child.exited;
    expect(readFileSync(it.policy, "utf8")).toContain("exit 101");
    expect(it.install().code).toBe(0);
    expect(readFileSync(it.policy, "utf8")).toContain("exit 104");
  });

  testUnless(why, "leaves services that it brought disabled, and others as they were", () => {
    const wants = "multi-user.target.wants";
    const it = machine(`${installs} ln -s /lib/nginx "$units/${wants}/nginx.service";; esac`);
    symlinkSync("/lib/tor", join(it.units, wants, "tor.service"));
    expect(it.install().code).toBe(0);
    expect(readdirSync(join(it.units, wants))).toEqual(["tor.service"]);
  });
});

test("dnf-install.sh takes the first alternative that the release has", () => {
  const folder = temporaryFolder();
  writeProgram(
    join(folder, "dnf"),
    `#!/bin/sh\necho "$@" >>${folder}/calls\ncase "$*" in *" redis" | *" none") exit 1;; esac\n`,
  );
  const dnf = join(root, "tools", "setup", "dnf-install.sh");
  const env = { ...process.env, PATH: `${folder}:${process.env["PATH"]}` };
  const { code } = runProgram(["sh", dnf, "tor", "redis|valkey-compat-redis", "zlib"], { env });
  expect(code).toBe(0);
  const weak = "--setopt=install_weak_deps=False";
  expect(readFileSync(join(folder, "calls"), "utf8").trim().split("\n")).toEqual([
    `-y ${weak} install tor zlib`,
    `-y ${weak} install redis`,
    `-y ${weak} install valkey-compat-redis`,
  ]);
  const broken = runProgram(["sh", dnf, "tor", "none|redis"], { env });
  expect(broken.code).not.toBe(0);
});
