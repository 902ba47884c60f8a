// A compressed log stays readable: killed, appended to, cut, written by two at once.

import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  closeSync,
  openSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { deflateRawSync, gunzipSync, gzipSync } from "node:zlib";
import { tryLock } from "../../src/ffi/libc.ts";
import { MEMBER_HEADER_BYTES, MEMBER_SIGNATURE } from "../../src/ffi/zlib.ts";
import { lacks, reason, testUnless } from "../lib/requires.ts";
import {
  counting,
  field,
  inFolder,
  offsets,
  openLog,
  readLines,
  writeLines,
  zcat,
} from "./log-lines.ts";

const why = reason(lacks("gzip"));

function startWriter(path: string, perSync: number, pid: number) {
  const script = join(import.meta.dir, "log-writer.ts");
  return Bun.spawn([process.execPath, script, path, String(perSync), String(pid)], {
    stdout: "pipe",
    stderr: "inherit",
  });
}

/** Reads what a writer prints until it has synced `enough` lines; returns the last number. */
async function syncedLines(
  writer: ReturnType<typeof startWriter>,
  enough: number,
): Promise<number> {
  const reader = writer.stdout.getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (value) text += new TextDecoder().decode(value);
    const whole = text.slice(0, text.lastIndexOf("\n") + 1).trimEnd();
    const last = Number(whole.slice(whole.lastIndexOf("\n") + 1));
    if (done || last >= enough) return last;
  }
}

testUnless(why, "the text is that of an uncompressed log", () =>
  inFolder((folder) => {
    for (const name of ["a.log", "a.log.gz"]) {
      const log = openLog(join(folder, name));
      writeLines(log, 5000);
      log.sync();
      writeLines(log, 5000, 5000);
      log.close();
    }
    const { text, status } = zcat(join(folder, "a.log.gz"));
    expect(status).toBe(0);
    expect(text).toBe(readFileSync(join(folder, "a.log"), "utf8"));
    // Readers other than gzip take the members, too.
    expect(gunzipSync(readFileSync(join(folder, "a.log.gz"))).toString()).toBe(text);
    expect(statSync(join(folder, "a.log.gz")).size).toBeLessThan(text.length / 3);
  }),
);

for (const perSync of [20, 3000, 200000]) {
  testUnless(why, `killed: every synced line is there (${perSync} lines a sync)`, () =>
    inFolder(async (folder) => {
      const path = join(folder, "a.log.gz");
      const writer = startWriter(path, perSync, 1);
      const synced = await syncedLines(writer, perSync * 3);
      writer.kill("SIGKILL");
      await writer.exited;
      expect(synced).toBeGreaterThanOrEqual(perSync * 3);
      const { text, stderr } = zcat(path);
      // A write that the signal cut short may leave a torn end; nothing worse.
      if (stderr !== "") expect(stderr).toMatch(/unexpected end of file/);
      const whole = text.slice(0, text.lastIndexOf("\n") + 1).trimEnd().split("\n");
      expect(whole.length).toBeGreaterThanOrEqual(synced);
      expect(offsets(whole)).toEqual(counting(whole.length));

      // The next run appends, and all of it can be read.
      const log = openLog(path);
      writeLines(log, 10, whole.length);
      log.close();
      expect(spawnSync("gzip", ["-t", path]).status).toBe(0);
      expect(offsets(readLines(path))).toEqual(counting(whole.length + 10));
    }),
    30_000,
  );
}

testUnless(why, "a cut anywhere is repaired by the next run, with all lines that can be read", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log.gz");
    const log = openLog(path);
    writeLines(log, 2000);
    log.sync();
    const firstMember = statSync(path).size;
    writeLines(log, 2000, 2000);
    log.close();
    const whole = readFileSync(path);
    const cuts = [1, 5, firstMember - 1, firstMember, firstMember + 1, firstMember + 19];
    cuts.push(firstMember + 20, Math.floor((firstMember + whole.length) / 2), whole.length - 1);
    for (const cut of cuts) {
      writeFileSync(path, whole.subarray(0, cut));
      const readable = zcat(path).text;
      const lines = readable.split("\n").length - 1;
      const next = openLog(path);
      writeLines(next, 3, 9000);
      next.close();
      expect([cut, spawnSync("gzip", ["-t", path]).status]).toEqual([cut, 0]);
      expect(offsets(readLines(path))).toEqual([...counting(lines), 9000, 9001, 9002]);
    }
  }),
  30_000,
);

testUnless(why, "what is not kqtime's at the end of a file is left as it is", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log.gz");
    writeFileSync(path, gzipSync("foreign\n"));
    const before = readFileSync(path);
    for (let run = 0; run < 2; run++) {
      const log = openLog(path);
      writeLines(log, 2, run * 2);
      log.close();
      appendFileSync(path, gzipSync("foreign\n"));
    }
    expect(readFileSync(path).subarray(0, before.length)).toEqual(before);
    const lines = readLines(path);
    expect(lines.filter((line) => line === "foreign").length).toBe(3);
    expect(offsets(lines.filter((line) => line !== "foreign"))).toEqual([0, 1, 2, 3]);
    // A cut file of another program: kept. Text under a .gz name: refused, and kept.
    const cut = gzipSync("foreign\n").subarray(0, 25);
    writeFileSync(path, cut);
    openLog(path).close();
    expect(readFileSync(path)).toEqual(cut);
    writeFileSync(path, "text");
    expect(() => openLog(path)).toThrow(/is no gzip file/);
    expect(readFileSync(path, "utf8")).toBe("text");
  }),
);

testUnless(why, "two runs may write one log at the same time", () =>
  inFolder(async (folder) => {
    const path = join(folder, "a.log.gz");
    const writers = [startWriter(path, 3000, 1), startWriter(path, 3000, 2)];
    const synced = await Promise.all(writers.map((writer) => syncedLines(writer, 60000)));
    for (const writer of writers) writer.kill("SIGKILL");
    await Promise.all(writers.map((writer) => writer.exited));
    // One of them may have been killed inside a write; a new run puts that in order.
    openLog(path).close();
    expect(spawnSync("gzip", ["-t", path]).status).toBe(0);
    const lines = readLines(path);
    for (const pid of [1, 2]) {
      const own = lines.filter((line) => field(line, "pid") === pid);
      expect(own.length).toBeGreaterThanOrEqual(synced[pid - 1]!);
      expect(offsets(own)).toEqual(counting(own.length));
    }
  }),
  30_000,
);

/** A torn end as a log may leave it, but that what it holds is `text`. */
function tornMember(text: Uint8Array): Uint8Array {
  const body = deflateRawSync(text, { level: 9 });
  const head = new Uint8Array(MEMBER_HEADER_BYTES + body.length - 8);
  head.set(MEMBER_SIGNATURE);
  // Longer than the file.
  new DataView(head.buffer).setUint32(MEMBER_SIGNATURE.length, 0x7fffffff, true);
  head.set(body.subarray(0, -8), MEMBER_HEADER_BYTES);
  return head;
}

test("a log that is made to cost time is appended to all the same, at once", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log.gz");
    // Each byte of it makes a thousand.
    const bomb = tornMember(new Uint8Array(1 << 30));
    expect(bomb.length).toBeGreaterThan(1e6);
    const junk = new Uint8Array(1 << 20).fill(255);
    junk.set(bomb.subarray(0, MEMBER_HEADER_BYTES));
    for (const end of [bomb, junk]) {
      writeFileSync(path, end);
      const startMs = performance.now();
      const log = openLog(path);
      writeLines(log, 3);
      log.close();
      expect(performance.now() - startMs).toBeLessThan(250);
      const file = readFileSync(path);
      expect(file.subarray(0, end.length).equals(end)).toBe(true);
      const lines = gunzipSync(file.subarray(end.length)).toString().trimEnd().split("\n");
      expect(offsets(lines)).toEqual([0, 1, 2]);
    }
  }), 30_000);

testUnless(why, "an end that another run may be writing is left alone; its own one is mended", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log.gz");
    const other = openLog(path);
    writeLines(other, 1000);
    other.sync();
    const whole = statSync(path).size;
    const torn = tornMember(new TextEncoder().encode("KQTIME-LOSS;start=0,end=0,off=7;NULL;\n".repeat(99)));
    appendFileSync(path, torn);
    // The other one holds the file: what it may be about to write is not cut off.
    openLog(path).close();
    expect(statSync(path).size).toBe(whole + torn.length);
    other.close();
    const startMs = performance.now();
    const next = openLog(path);
    expect(performance.now() - startMs).toBeLessThan(250);
    writeLines(next, 3, 9000);
    next.close();
    expect(zcat(path).status).toBe(0);
    const found = offsets(readLines(path));
    expect(found.slice(0, 1000)).toEqual(counting(1000));
    expect(found.filter((off) => off === 7).length).toBeGreaterThan(1);
    expect(found.slice(-3)).toEqual([9000, 9001, 9002]);
  }),
);

testUnless(why, "while another run mends the end, lines wait, a second at the most", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log.gz");
    openLog(path).close();
    const fd = openSync(path, "r+");
    expect(tryLock(fd, "exclusive")).toBe(true);
    const log = openLog(path);
    writeLines(log, 3);
    log.sync();
    expect(statSync(path).size).toBe(0);
    closeSync(fd);
    log.sync();
    expect(offsets(readLines(path))).toEqual([0, 1, 2]);
    log.close();
    // One that holds it for ever does not keep anybody from writing.
    const held = openSync(path, "r+");
    expect(tryLock(held, "exclusive")).toBe(true);
    const patient = openLog(path);
    writeLines(patient, 3, 3);
    patient.close();
    expect(offsets(readLines(path))).toEqual(counting(6));
    closeSync(held);
  }),
);

test("an empty log has no member, and sync without new lines writes nothing", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log.gz");
    const log = openLog(path);
    log.sync();
    writeLines(log, 1);
    log.sync();
    const { size } = statSync(path);
    log.sync();
    log.close();
    expect(statSync(path).size).toBe(size);
    truncateSync(path);
    openLog(path).close();
    expect(statSync(path).size).toBe(0);
  }));
