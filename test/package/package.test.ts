// What is published works where nothing of this checkout is: the main job, the API, the types.

import { afterAll, beforeAll, expect } from "bun:test";
import { cpSync, existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Summary } from "../../src/output/summary.ts";
import { ROOT } from "../lib/kqtime.ts";
import { enter, makeNamespace } from "../lib/network.ts";
import { needsNamespaces } from "../lib/privilege.ts";
import { Scope } from "../lib/process.ts";
import { lacks, reason, testUnless } from "../lib/requires.ts";
import { install, pack, type Packed } from "./package.ts";

const noNpm = reason(lacks("npm"));
const BODY_BYTES = 100_000;

let scope: Scope;
let packed: Packed;
let folder: string;

beforeAll(async () => {
  scope = new Scope();
  if (noNpm !== null) return;
  packed = await pack(scope);
  folder = await install(scope, packed);
}, 60_000);

afterAll(() => scope.end());

function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

testUnless(noNpm, "the tarball holds what is needed, and nothing else", () => {
  const { files } = packed;
  const folders = new Set(files.map((path) => path.replace(/\/[^/]*$/, "").replace(/^[^/]*\..*$/, "")));
  for (const name of ["bin", "c", "docs", "preload", "src/api", "src/cli", "types/api"]) {
    expect(folders).toContain(name);
  }
  const expected = [
    /^(c|preload)\/\w+\.([chS]|map)$/,
    /^docs\/[\w.-]+\.(md|json|png)$/,
    /^examples\/[\w./-]+$/,
    /^src\/[\w/-]+(\.d)?\.ts$/,
    /^types\/[\w/-]+\.d\.ts$/,
    /^(bin\/kqtime|tools\/(build-native\.sh|(install-native|parse-kqtime)\.ts)|(kqtime|install-native)\.ts)$/,
    /^(package\.json|bunfig\.toml|tsconfig\.json|README\.md|CHANGELOG\.md|LICENSE)$/,
  ];
  const known = (path: string) => expected.some((pattern) => pattern.test(path));
  expect(files.filter((path) => !known(path))).toEqual([]);
  expect(files.filter((path) => /test|node_modules|\.log|\.gz$|\.so$/.test(path))).toEqual([]);
  for (const path of ["LICENSE", "README.md", "types/api/index.d.ts", "docs/summary.schema.json"]) {
    expect(files).toContain(path);
  }
});

needsNamespaces("kqtime run builds its C parts and measures", async () => {
  const prefix = enter(await makeNamespace(scope, "p"));
  const server = write(
    "server.ts",
    `const server = Bun.serve({ port: 0, hostname: "127.0.0.1",
       fetch: () => new Response(new Uint8Array(${BODY_BYTES})) });
     console.log("port", server.port);`,
  );
  const serving = scope.start([process.execPath, server], { prefix, cwd: folder });
  const [, port] = await serving.says(/port (\d+)/);
  const native = join(folder, "node_modules", "kqtime", "build", "libkqtime-preload.so");
  expect(existsSync(native)).toBe(false);
  const url = `http://127.0.0.1:${port}/`;
  await scope.run(
    [
      join(folder, "node_modules", ".bin", "kqtime"), "run", "--quiet", "--log", "curl.log",
      "--json", "curl.json", "--", "curl", "-s", "-o", "body", url,
    ],
    { prefix, cwd: folder },
  );
  expect(existsSync(native)).toBe(true);
  expect(readFileSync(join(folder, "body")).length).toBe(BODY_BYTES);
  const summary = JSON.parse(readFileSync(join(folder, "curl.json"), "utf8")) as Summary;
  const { out, in: inbound } = summary.directions;
  expect([out.coverage, inbound.coverage]).toEqual([1, 1]);
  expect(inbound.bytesMatched).toBeGreaterThan(BODY_BYTES);
  expect(summary.labels.map(({ label }) => label)).toEqual([`out:${port}`]);
  const log = readFileSync(join(folder, "curl.log"), "utf8");
  expect(log).toMatch(new RegExp(`^KQTIME-IN;.*rport=${port};out:${port};$`, "m"));
}, { programs: ["npm", "curl", "cc"] });

testUnless(noNpm, "the commands that read logs work, with what they need from npm", async () => {
  write("small.log", "KQTIME-OUT;start=1700000000.0,end=1700000000.5,fd=3,bytes=9;x;\n");
  const kqtime = join(folder, "node_modules", ".bin", "kqtime");
  const parsed = await scope.run([kqtime, "parse", "small.log"], { cwd: folder });
  expect(parsed.stdout).toBe("1700000000.000000 KQTIME-OUT 500.0\n");
  await scope.run([kqtime, "export", "--parquet", "small.parquet", "small.log"], { cwd: folder });
  expect(readFileSync(join(folder, "small.parquet"), "latin1")).toMatch(/^PAR1[^]*PAR1$/);
});

testUnless(noNpm, "the API is there, and says how to start a program that uses it", async () => {
  const program = write(
    "api.ts",
    `import { KQTime, KQTimeError } from "kqtime";
     import schema from "kqtime/summary.schema.json";
     console.log(schema.type);
     try {
       await using kq = await KQTime.open({ log: "api.log" });
       kq.register(1, "none");
     } catch (error) {
       console.log(error instanceof KQTimeError, error.code, error.message);
     }`,
  );
  const { stdout } = await scope.run([process.execPath, program], { cwd: folder });
  expect(stdout).toContain("object\n");
  expect(stdout).toMatch(/^true E_NOT_PRELOADED .*`bunx kqtime run -- bun .*LD_PRELOAD=/m);
  expect(existsSync(join(folder, "api.log"))).toBe(false);
});

needsNamespaces("the example service measures itself with the installed package", async () => {
  const prefix = enter(await makeNamespace(scope, "q"));
  const example = join(folder, "service");
  const kqtime = join(folder, "node_modules", "kqtime");
  cpSync(join(kqtime, "examples", "service"), example, { recursive: true });
  await scope.run([join(folder, "node_modules", ".bin", "kqtime"), "setup"], { cwd: folder });
  const env = {
    ...process.env, PORT: "0", ADMIN_PORT: "0", KQTIME_LOG: join(example, "log"),
    LD_PRELOAD: join(kqtime, "build", "libkqtime-preload.so"),
  };
  const service = scope.start([process.execPath, "measured.ts"], { prefix, cwd: example, env });
  const [, port, figures] = await service.says(/port (\d+), figures on (\S+)/);
  await scope.run(["curl", "-s", "-o", "/dev/null", `http://127.0.0.1:${port}/bytes/5000`], { prefix });
  const { stdout } = await scope.run(["curl", "-s", figures!], { prefix });
  const { labels, directions } = JSON.parse(stdout) as Summary;
  expect(labels.map(({ label }) => label)).toEqual(["http"]);
  expect(directions.out.bytesMatched).toBeGreaterThan(5000);
  service.kill("SIGTERM");
  expect((await service.exit(10_000)).code).toBe(0);
  expect(readFileSync(join(example, "log"), "utf8")).toContain(";http;");

  const config = write(
    "tsconfig.example.json",
    JSON.stringify({
      compilerOptions: {
        strict: true, noEmit: true, target: "esnext", module: "esnext", lib: ["esnext"],
        moduleResolution: "bundler", allowImportingTsExtensions: true, skipLibCheck: true,
        noPropertyAccessFromIndexSignature: true,
        typeRoots: [join(ROOT, "node_modules", "@types")], types: ["bun"],
      },
      include: ["service"],
    }),
  );
  const tsc = join(ROOT, "node_modules", ".bin", "tsc");
  const checked = await scope.start([tsc, "-p", config], { cwd: folder }).exit();
  expect(checked.stdout).toBe("");
}, { programs: ["npm", "curl", "cc"] });

needsNamespaces("the C API is installed from the package, and runs without it", async () => {
  const prefix = scope.path("usr");
  const words = [process.execPath, join("node_modules", "kqtime", "install-native.ts")];
  const usage = await scope.start(words, { cwd: folder }).exit();
  expect(usage.stderr).toBe(
    "install-native: usage: bun node_modules/kqtime/install-native.ts --prefix DIR [--debug]\n",
  );
  await scope.run([...words, "--prefix", prefix], { cwd: folder });
  const program = write(
    "program.c",
    `#include <stddef.h>
     #include <kqtime.h>
     int main(void) {
       KQTime *kqtime = kqtime_new("c.log", 1, 1, 1);
       if (kqtime == NULL) return 1;
       kqtime_free(kqtime);
       return 0;
     }`,
  );
  const flags = [`-I${prefix}/include`, `-L${prefix}/lib`, "-lkqtime"];
  await scope.run(["cc", "-o", scope.path("program"), program, ...flags]);
  // Nothing of the package is left to be found.
  renameSync(join(folder, "node_modules"), join(folder, "not_modules"));
  try {
    const env = {
      PATH: "/usr/bin:/bin",
      LD_LIBRARY_PATH: join(prefix, "lib"),
      LD_PRELOAD: join(prefix, "lib", "libkqtime-preload.so"),
    };
    const inside = enter(await makeNamespace(scope, "r"));
    await scope.run([scope.path("program")], { prefix: inside, cwd: folder, env });
  } finally {
    renameSync(join(folder, "not_modules"), join(folder, "node_modules"));
  }
  expect(existsSync(join(folder, "c.log"))).toBe(true);
}, { programs: ["npm", "cc"] });

testUnless(noNpm, "the example of docs/api.md compiles, with the package's types", async () => {
  const text = readFileSync(join(folder, "node_modules", "kqtime", "docs", "api.md"), "utf8");
  const example = /^## Example\n+((?: {4}.*\n|\n)+)/m.exec(text)![1]!.replace(/^ {4}/gm, "");
  expect(example).toContain('from "kqtime"');
  expect(example).toContain("Bun.serve(");
  write("documented.ts", example);
  const config = write(
    "tsconfig.documented.json",
    JSON.stringify({
      compilerOptions: {
        strict: true, noEmit: true, target: "esnext", module: "esnext", lib: ["esnext"],
        moduleResolution: "bundler", skipLibCheck: true, noUnusedLocals: true,
        typeRoots: [join(ROOT, "node_modules", "@types")], types: ["bun"],
      },
      files: ["documented.ts"],
    }),
  );
  const tsc = join(ROOT, "node_modules", ".bin", "tsc");
  const checked = await scope.start([tsc, "-p", config], { cwd: folder }).exit();
  expect([checked.stdout, checked.code]).toEqual(["", 0]);
});

const CONSUMER = `
import { KQTime, KQTimeError, type Sample, type Summary } from "kqtime";
import { connect } from "node:net";

export async function measure(fd: number): Promise<number> {
  await using kq = await KQTime.open({ log: "a.log.gz", inbound: true, outbound: false });
  kq.register(fd, "name");
  kq.register({ fd }, "name");
  kq.register(connect(1), "name");
  await kq.registerPort(80, "http");
  await kq.registerPeer({ address: "::1", port: 1, family: "IPv6" }, "peer");
  for await (const sample of kq) {
    const either: Sample = sample;
    if (either.kind === "call") console.log(either.waitNs.toFixed(0));
    else console.log(either.reason.length);
  }
  const summary: Summary = await kq.snapshot();
  // @ts-expect-error: a string is no descriptor
  kq.register("7", "name");
  // @ts-expect-error: there is no such option
  await KQTime.open({ logs: "a" });
  return summary.directions.out.callNs.p99 ?? 0;
}
export const isOurs = (error: unknown): boolean =>
  error instanceof KQTimeError && error.code === "E_LOG" && error.exitCode === 125;
`;

for (const [resolution, module] of [["bundler", "esnext"], ["nodenext", "nodenext"]] as const) {
  testUnless(noNpm, `types for a consumer with moduleResolution ${resolution}`, async () => {
    write("consumer.ts", CONSUMER);
    const types = join(ROOT, "node_modules", "@types");
    const config = write(
      `tsconfig.${resolution}.json`,
      JSON.stringify({
        compilerOptions: {
          strict: true,
          noEmit: true,
          target: "es2022",
          module,
          moduleResolution: resolution,
          lib: ["es2022", "dom"],
          // All that our own sources would fail under.
          noUncheckedIndexedAccess: true,
          noPropertyAccessFromIndexSignature: true,
          exactOptionalPropertyTypes: true,
          skipLibCheck: resolution === "bundler",
          typeRoots: [types],
          types: ["node"],
        },
        files: ["consumer.ts"],
      }),
    );
    const tsc = join(ROOT, "node_modules", ".bin", "tsc");
    const exit = await scope.start([tsc, "-p", config], { cwd: folder }).exit();
    expect(exit.stdout + exit.stderr).toBe("");
    expect(exit.code).toBe(0);
    const listed = await scope.run([tsc, "-p", config, "--listFilesOnly"], { cwd: folder });
    const ours = listed.stdout.split("\n").filter((path) => path.includes("node_modules/kqtime/"));
    expect(ours.length).toBeGreaterThan(0);
    expect(ours.filter((path) => !path.endsWith(".d.ts"))).toEqual([]);
  });
}
