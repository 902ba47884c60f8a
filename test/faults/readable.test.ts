// The judge of logs that were cut: it takes a cut end for what it is, and nothing else for one.

import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { MemberEncoder } from "../../src/ffi/zlib.ts";
import { Scope } from "../lib/process.ts";
import { readable } from "./readable.ts";

test("only the last member of a compressed log may be cut", async () => {
  const scope = new Scope();
  const path = scope.path("kq.log.gz");
  const encoder = new MemberEncoder(4096, 1);
  const read = (...parts: Uint8Array[]) => {
    writeFileSync(path, Buffer.concat(parts));
    return readable(path);
  };
  try {
    const texts = ["a line;\nanother;\n", "more of them;\n", "the end;\n"];
    const [a, b, c] = texts.map((text) => {
      const bytes = new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>;
      return encoder.output.slice(0, encoder.encode(bytes, bytes.length));
    }) as [Uint8Array, Uint8Array, Uint8Array];
    expect(await read()).toBe("");
    expect(await read(a, b, c)).toBe(texts.join(""));
    for (let cut = 0; cut < c.length; cut++) {
      const text = await read(a, b, c.subarray(0, cut));
      expect(texts.join("")).toStartWith(text);
      expect(text).toStartWith(texts[0]! + texts[1]!);
    }
    for (let cut = 1; cut < b.length; cut++) {
      for (const behind of [[c], [c.subarray(0, 25)], [c, a]]) {
        await expect(read(a, b.subarray(0, cut), ...behind)).rejects.toThrow(/member/);
      }
    }
    const hurt = b.slice();
    hurt[hurt.length - 6]! ^= 1;
    await expect(read(a, hurt, c)).rejects.toThrow(/the member at byte/);
    await expect(read(a, b, new TextEncoder().encode("no member"))).rejects.toThrow(/no member begins/);
  } finally {
    encoder.close();
    await scope.end();
  }
});
