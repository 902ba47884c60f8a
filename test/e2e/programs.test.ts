// Real programs, unmodified, both ends measured: every byte matched, every payload unharmed.

import { expect } from "bun:test";
import { chmodSync, chownSync, mkdirSync, writeFileSync } from "node:fs";
import { e2e } from "../lib/e2e.ts";
import { withLab, withLoopback, type Lab, type LabOptions } from "../lib/network.ts";
import { checksum, Program, randomFile } from "../lib/programs.ts";
import { until, type Scope } from "../lib/process.ts";

const MIB = 1 << 20;

/** A test in a lab, which needs these programs. */
function scenario(
  name: string, programs: readonly string[], lab: LabOptions, body: (lab: Lab) => Promise<void>,
): void {
  e2e(name, () => withLab(lab, body), 120_000, programs);
}

const SHAPE = { rate: "400mbit", burstBytes: 60_000 };
const FAST = { shape: SHAPE, shapeBack: SHAPE };

/** The left node fetches each URL with a curl of its own; checks that all got the same bytes. */
async function fetchAll(lab: Lab, urls: readonly string[], bytes: number, sum: string) {
  await Promise.all(urls.map(async (url, i) => {
    const path = lab.scope.path(`fetched-${i}`);
    const curl = new Program(lab.scope, lab.left, ["curl", "-sSf", "-g", "-o", path, url]);
    await curl.completes({ in: bytes });
    expect(checksum(path)).toBe(sum);
  }));
}

function folderFor(scope: Scope, name: string): string {
  const folder = scope.path(name);
  mkdirSync(folder);
  chmodSync(scope.folder, 0o755);
  return folder;
}

for (const family of ["v4", "v6"] as const) {
  scenario(`curl and python3 http.server, ${family}`, ["curl", "python3"], FAST, async (lab) => {
    const folder = folderFor(lab.scope, "www");
    const sum = randomFile(`${folder}/data`, 6 * MIB);
    const server = new Program(lab.scope, lab.right, [
      "python3", "-u", "-m", "http.server", "8000", "--bind", lab.right[family], "--directory", folder,
    ]);
    await server.says(/Serving HTTP/);
    const host = family === "v6" ? `[${lab.right.v6}]` : lab.right.v4;
    await fetchAll(lab, [`http://${host}:8000/data`], 6 * MIB, sum);
    await server.stops("SIGTERM", [143], { out: 6 * MIB });
  });
}

scenario("nginx (sendfile, a forked worker) and curl", ["nginx", "curl"], FAST, async (lab) => {
  const { scope } = lab;
  const folder = folderFor(scope, "www");
  const sum = randomFile(`${folder}/data`, 6 * MIB);
  const pid = scope.path("nginx.pid");
  writeFileSync(scope.path("nginx.conf"), `
    daemon off; master_process on; worker_processes 1; user root; pid ${pid};
    error_log ${scope.path("error.log")} notice;
    events { worker_connections 64; }
    http {
      access_log off; sendfile on; keepalive_timeout 5;
      client_body_temp_path ${scope.path("t1")}; proxy_temp_path ${scope.path("t2")};
      fastcgi_temp_path ${scope.path("t3")}; uwsgi_temp_path ${scope.path("t4")};
      scgi_temp_path ${scope.path("t5")};
      server { listen ${lab.right.v4}:8001; root ${folder}; }
    }`);
  const server = new Program(scope, lab.right, [
    "nginx", "-c", scope.path("nginx.conf"), "-e", scope.path("error.log"),
  ]);
  await until("worker of nginx", async () => {
    const file = Bun.file(scope.path("error.log"));
    return (await file.exists()) && (await file.text()).includes("start worker process ");
  });
  const url = `http://${lab.right.v4}:8001/data`;
  await fetchAll(lab, [url, url, url], 6 * MIB, sum);
  await server.stops("SIGTERM", [0], { out: 18 * MIB });
});

scenario(
  "redis-server (4 io-threads) and redis-benchmark", ["redis-server", "redis-benchmark"], {},
  async (lab) => {
    const { scope, left, right } = lab;
    const server = new Program(scope, right, [
      "redis-server", "--port", "6400", "--bind", right.v4, "--protected-mode", "no", "--save", "",
      "--io-threads", "4", "--io-threads-do-reads", "yes", "--dir", scope.folder, "--appendonly", "no",
    ]);
    await server.says(/Ready to accept connections/);
    const at = ["-h", right.v4, "-p", "6400"];
    const benchmark = new Program(scope, left, [
      "redis-benchmark", ...at, "-t", "set,get", "-n", "10000", "-c", "20", "-d", "300", "-r", "50",
      "-P", "4", "-q",
    ]);
    await benchmark.completes({ out: 2 * 10_000 * 30, in: 10_000 * 100 });
    const value = "the value ".repeat(2000);
    const cli = ["redis-cli", ...at];
    await new Program(scope, left, [...cli, "set", "text", value]).completes({ out: value.length });
    const got = await new Program(scope, left, [...cli, "get", "text"]).completes({ in: value.length });
    expect(got.stdout.trim()).toBe(value.trim());
    await server.stops("SIGTERM", [0], { in: 10_000 * 300, out: 10_000 * 100 });
  },
);

scenario("PostgreSQL (forked backends) and psql", ["postgres", "psql"], FAST, async (lab) => {
  const { scope, left, right } = lab;
  const data = folderFor(scope, "pgdata");
  const { uid, gid } = await accountOf("postgres");
  chownSync(data, uid, gid);
  chmodSync(data, 0o700);
  const list = Bun.spawnSync(["sh", "-c", "ls -d /usr/lib/postgresql/*/bin | tail -1"]);
  const bin = list.stdout.toString().trim();
  const asPostgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"];
  const initdb = [`${bin}/initdb`, "-D", data, "-A", "trust", "--no-sync"];
  await scope.run([...asPostgres, ...initdb], { cwd: data });
  const server = new Program(scope, right, [
    `${bin}/postgres`, "-D", data, "-c", `listen_addresses=${right.v4}`, "-c", "port=5440",
    "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "autovacuum=off",
    "-c", "hba_file=" + hba(scope, uid, gid),
  ], { user: "postgres" });
  await server.says(/ready to accept connections/);
  const connect = ["psql", "-X", "-q", "-A", "-t", "-h", right.v4, "-p", "5440", "-U", "postgres"];
  const rows = "select string_agg(md5(i::text), '') from generate_series(1, 40000) i";
  const sum = md5Series(40_000);
  const clients = [0, 1, 2].map(async () => {
    const client = new Program(scope, left, [...connect, "-c", rows]);
    const { stdout } = await client.completes({ in: 40_000 * 32 });
    expect(stdout.trim() === sum).toBe(true);
  });
  await Promise.all(clients);
  const upload = new Program(scope, left, [
    ...connect, "-c", `select length('${"x".repeat(60_000)}')`,
  ]);
  expect((await upload.completes({ out: 60_000 })).stdout.trim()).toBe("60000");
  await server.stops("SIGINT", [0, 130], { out: 3 * 40_000 * 32, in: 60_000 });
});

function md5Series(count: number): string {
  let text = "";
  for (let i = 1; i <= count; i++) text += new Bun.CryptoHasher("md5").update(`${i}`).digest("hex");
  return text;
}

function hba(scope: Scope, uid: number, gid: number): string {
  const path = scope.path("pg_hba.conf");
  writeFileSync(path, "host all all 0.0.0.0/0 trust\n");
  chownSync(path, uid, gid);
  return path;
}

async function accountOf(user: string): Promise<{ uid: number; gid: number }> {
  const id = (flag: string) => Number(Bun.spawnSync(["id", flag, user]).stdout.toString());
  return { uid: id("-u"), gid: id("-g") };
}

const NODE_SERVER = `
  const { readFileSync } = require("node:fs");
  const data = readFileSync(process.argv[2]);
  require("node:http").createServer((request, response) => {
    let bytes = 0;
    request.on("data", (chunk) => (bytes += chunk.length));
    request.on("end", () => {
      if (request.method === "POST") response.end("got " + bytes);
      else response.end(data);
    });
  }).listen(8002, process.argv[3], () => console.log("listening"));
`;

const BUN_SERVER = `
  const [path, hostname] = process.argv.slice(2);
  const data = new Uint8Array(await Bun.file(path).arrayBuffer());
  Bun.serve({
    port: 8002, hostname,
    async fetch(request) {
      if (request.method === "POST") {
        return new Response("got " + (await request.arrayBuffer()).byteLength);
      }
      if (request.url.endsWith("/file")) return new Response(Bun.file(path));
      return new Response(data);
    },
  });
  console.log("listening");
`;

for (const runtime of ["node", "bun"]) {
  const programs = runtime === "node" ? ["node", "curl"] : ["curl"];
  scenario(`HTTP server of ${runtime}`, programs, FAST, async (lab) => {
    const { scope, left, right } = lab;
    const data = scope.path("data");
    const sum = randomFile(data, 5 * MIB);
    const script = scope.path(runtime === "node" ? "server.cjs" : "server.mjs");
    writeFileSync(script, runtime === "node" ? NODE_SERVER : BUN_SERVER);
    const program = runtime === "node" ? "node" : process.execPath;
    const server = new Program(scope, right, [program, script, data, right.v4]);
    await server.says(/listening/);
    const base = `http://${right.v4}:8002`;
    await fetchAll(lab, [`${base}/`, `${base}/file`], 5 * MIB, sum);
    const post = new Program(scope, left, [
      "curl", "-sSf", "-H", "Expect:", "--data-binary", `@${data}`, `${base}/`,
    ]);
    expect((await post.completes({ out: 5 * MIB })).stdout).toBe(`got ${5 * MIB}`);
    await server.stops("SIGTERM", [143], { out: 10 * MIB, in: 5 * MIB });
  });
}

const FETCHING = `
  const [url, sum] = process.argv.slice(2);
  const { createHash } = await import("node:crypto");
  for (const path of ["/", "/file"]) {
    const body = Buffer.from(await (await fetch(url + path)).arrayBuffer());
    if (createHash("sha256").update(body).digest("hex") !== sum) process.exit(3);
  }
  console.log("fetched");
  process.exit(0);
`;

for (const runtime of ["node", "bun"]) {
  scenario(`fetch() of ${runtime}`, runtime === "node" ? ["node"] : [], FAST, async (lab) => {
    const { scope, left, right } = lab;
    const data = scope.path("data");
    const sum = randomFile(data, 3 * MIB);
    writeFileSync(scope.path("server.mjs"), BUN_SERVER);
    writeFileSync(scope.path("client.mjs"), FETCHING);
    const server = scope.start(
      [process.execPath, scope.path("server.mjs"), data, right.v4], { prefix: right.prefix },
    );
    await server.says(/listening/);
    const program = runtime === "node" ? "node" : process.execPath;
    const client = new Program(scope, left, [
      program, scope.path("client.mjs"), `http://${right.v4}:8002`, sum,
    ]);
    expect((await client.completes({ in: 6 * MIB })).stdout).toContain("fetched");
  });
}

const VFORK_SERVER = `
import http.server, socketserver, subprocess, sys
data = open(sys.argv[1], "rb").read()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *words): pass
    def do_GET(self):
        half = len(data) // 2
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:half])
        out = subprocess.run(["echo", "child"], capture_output=True, close_fds=True)
        assert out.stdout == b"child\\n"
        self.wfile.write(data[half:])
        subprocess.run(["true"], stdin=subprocess.DEVNULL)
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
server = Server((sys.argv[2], 8003), Handler)
print("listening", flush=True)
server.serve_forever()
`;

scenario("a Python server that runs subprocesses", ["python3", "curl"], FAST, async (lab) => {
  const { scope, right } = lab;
  const data = scope.path("data");
  const sum = randomFile(data, 2 * MIB);
  writeFileSync(scope.path("server.py"), VFORK_SERVER);
  const server = new Program(scope, right, ["python3", scope.path("server.py"), data, right.v4]);
  await server.says(/listening/);
  const url = `http://${right.v4}:8003/`;
  await fetchAll(lab, [url, url, url, url], 2 * MIB, sum);
  await server.stops("SIGTERM", [143], { out: 8 * MIB });
});

for (const mode of [[], ["-R"], ["-Z", "-P", "4"]]) {
  const name = ["iperf3 at full speed", ...mode].join(" ");
  e2e(name, async () => {
    await withLab({}, async ({ scope, left, right }) => {
      const options = { kqtime: ["--buffer", "512"] };
      const serving = ["iperf3", "-s", "-1", "--forceflush", "-B", right.v4];
      const server = new Program(scope, right, serving, options);
      await server.says(/Server listening/);
      const client = new Program(scope, left, [
        "iperf3", "-c", right.v4, "-t", "2", "-J", ...mode,
      ], options);
      // At the end of its time the receiver resets the streams, and what then waits in the sender's
      // buffer is thrown away: it never departs, and it must not seem to (loss.test.ts counts it).
      const allow = ["closed unsent"];
      const { stdout } = await client.completes({ allow }, 30_000);
      const end = JSON.parse(stdout).end;
      const moved = end.sum_received.bytes as number;
      expect(moved).toBeGreaterThan(50_000_000);
      await server.completes(mode.includes("-R") ? { out: moved, allow } : { in: moved });
    });
  }, 90_000, ["iperf3"]);
}

e2e("a shell that runs both ends on loopback", async () => {
  await withLoopback(async (node, scope) => {
    const folder = folderFor(scope, "www");
    const sum = randomFile(`${folder}/data`, 3 * MIB);
    const script = `
      python3 -u -m http.server 8004 --bind ${node.v4} --directory ${folder} 2>&1 &
      server=$!
      until curl -sSf -o ${scope.path("fetched")} http://${node.v4}:8004/data 2>/dev/null; do :; done
      kill $server; wait $server; exit 7`;
    const program = new Program(scope, node, ["bash", "-c", script]);
    await program.ends([7], { out: 3 * MIB, in: 3 * MIB });
    expect(checksum(scope.path("fetched"))).toBe(sum);
  });
}, 60_000, ["curl", "python3"]);
