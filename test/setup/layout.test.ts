import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Constant, Entry, Header, Kind, Slot, SlotBytes } from "../../src/ring/layout.ts";
import { copyParts, root, runProgram, temporaryFolder } from "./folder.ts";

function check(folder: string) {
  return runProgram([process.execPath, join(folder, "tools", "gen-layout.ts"), "--check"]);
}

test("src/ring/layout.ts agrees with the header", () => {
  const { code, stderr } = check(root);
  expect(stderr).toBe("");
  expect(code).toBe(0);
});

test("a header that has changed makes the layout stale", () => {
  const folder = temporaryFolder();
  copyParts(folder, "c/kqtime_shm.h", "tools/gen-layout.ts", "src/ring/layout.ts");
  expect(check(folder).code).toBe(0);
  const header = join(folder, "c", "kqtime_shm.h");
  const text = readFileSync(header, "utf8");
  writeFileSync(header, text.replace("KQ_KIND_OUT = 1", "KQ_KIND_OUT = 77"));
  const stale = check(folder);
  expect(stale.code).toBe(1);
  expect(stale.stderr).toContain("bun tools/gen-layout.ts");
  const generated = runProgram([process.execPath, join(folder, "tools", "gen-layout.ts")]);
  expect(generated.stderr).toBe("");
  expect(check(folder).code).toBe(0);
  expect(readFileSync(join(folder, "src", "ring", "layout.ts"), "utf8")).toContain("Out: 77,");
});

test("the layout holds what the header promises in words", () => {
  expect([Header.head, Header.tail, Header.losses]).toEqual([128, 256, 384]);
  expect(SlotBytes.total).toBe(Constant.slotBytes);
  expect([Slot.commit, Slot.tag, SlotBytes.tag]).toEqual([0, 48, 16]);
  expect([Entry.state, Entry.out, Entry.in]).toEqual([0, 128, 192]);
  expect(Kind).toHaveProperty("Out", 1);
});
