// Two network namespaces joined by a veth pair, and captures in them. A capture runs in a process
// of its own (driver.ts) because a namespace is entered by a process.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DriverOptions, DriverResult } from "./driver.ts";

let made = 0;

export function run(...argv: string[]): string {
  const done = spawnSync(argv[0], argv.slice(1), { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`${argv.join(" ")}: ${done.stderr}${done.stdout}`);
  return done.stdout;
}

export class Driver {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #reader: { read(): Promise<{ done: boolean; value?: Uint8Array | undefined }> };
  #text = "";

  constructor(prefix: readonly string[], options: DriverOptions) {
    const script = join(import.meta.dir, "driver.ts");
    this.#child = Bun.spawn([...prefix, process.execPath, script, JSON.stringify(options)], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    this.#reader = this.#child.stdout.getReader();
  }

  /** Waits until it captures. */
  async ready(): Promise<this> {
    await this.#line();
    return this;
  }

  /** Lets it read what is still there, and tells what it saw. */
  async finish(): Promise<DriverResult> {
    this.#child.stdin.end();
    const line = await this.#line();
    await this.#child.exited;
    return JSON.parse(line) as DriverResult;
  }

  async #line(): Promise<string> {
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return line;
      }
      const { done, value } = await this.#reader.read();
      if (done) throw new Error(`the driver ended: ${this.#text}`);
      this.#text += new TextDecoder().decode(value);
    }
  }
}

export class Lab implements Disposable {
  readonly left: string;
  readonly right: string;
  readonly folder: string;

  constructor() {
    const base = `kqcap${process.pid}x${made++}`;
    this.left = `${base}l`;
    this.right = `${base}r`;
    this.folder = mkdtempSync(join(tmpdir(), "kqcap-"));
    run("ip", "netns", "add", this.left);
    run("ip", "netns", "add", this.right);
    run("ip", "link", "add", "va", "netns", this.left, "type", "veth", "peer", "name", "vb",
      "netns", this.right);
    for (const [name, device, n] of [[this.left, "va", 1], [this.right, "vb", 2]] as const) {
      run("ip", "-n", name, "link", "set", "lo", "up");
      run("ip", "-n", name, "link", "set", device, "up");
      run("ip", "-n", name, "addr", "add", `10.77.0.${n}/24`, "dev", device);
      run("ip", "-n", name, "addr", "add", `fd77::${n}/64`, "dev", device, "nodad");
    }
  }

  prefix(namespace: string): string[] {
    return ["ip", "netns", "exec", namespace];
  }

  in(namespace: string, ...argv: string[]): string {
    return run(...this.prefix(namespace), ...argv);
  }

  async capture(namespace: string, options: DriverOptions): Promise<Driver> {
    return new Driver(this.prefix(namespace), options).ready();
  }

  /** Sends `bytes` from left to right, or within the left. */
  async transfer(address: string, port: number, bytes: number, server = this.right): Promise<void> {
    const script = join(import.meta.dir, "traffic.ts");
    const spawn = (namespace: string, ...words: string[]) =>
      Bun.spawn([...this.prefix(namespace), process.execPath, script, ...words], {
        stdout: "pipe",
        stderr: "inherit",
      });
    const listener = spawn(server, "serve", address, String(port), String(bytes));
    const reader = listener.stdout.getReader();
    await reader.read();
    const sender = spawn(this.left, "send", address, String(port), String(bytes));
    if (await sender.exited !== 0) throw new Error("the sender failed");
    const { value } = await reader.read();
    await listener.exited;
    const received = Number(new TextDecoder().decode(value));
    if (received !== bytes) throw new Error(`${received} of ${bytes} bytes arrived`);
  }

  [Symbol.dispose](): void {
    for (const name of [this.left, this.right]) spawnSync("ip", ["netns", "del", name]);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
