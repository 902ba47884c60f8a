// Generates src/ring/layout.ts from c/kqtime_shm.h, so that the layout of the shared memory is
// written once. Names are parsed from the header; every number (offset, size, #define, enumerator)
// is printed by a program that the C compiler built from it, never computed here.
//
//     bun tools/gen-layout.ts            writes the file
//     bun tools/gen-layout.ts --check    exits 1 if the file is stale

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dir, "..");
const headerPath = join(root, "c", "kqtime_shm.h");
const layoutPath = join(root, "src", "ring", "layout.ts");

interface StructNames {
  tag: string;
  fields: string[];
}

interface EnumNames {
  tag: string;
  enumerators: string[];
}

interface HeaderNames {
  defines: string[];
  structs: StructNames[];
  enums: EnumNames[];
}

/** `kq_slot_flag` → `SlotFlag`, `RING_FULL` → `RingFull`. */
function pascal(snake: string): string {
  return snake
    .toLowerCase()
    .split("_")
    .map((part) => part.charAt(0).toUpperCase() + part.slice(1))
    .join("");
}

/** `time_ns` → `timeNs`. */
function camel(snake: string): string {
  const name = pascal(snake);
  return name.charAt(0).toLowerCase() + name.slice(1);
}

/** `kq_header` → `Header`. */
function exported(tag: string): string {
  return pascal(tag.replace(/^kq_/, ""));
}

/** What all enumerators of one enum begin with, up to and with an underscore. */
function commonPrefix(names: string[]): string {
  let prefix = names[0] ?? "";
  for (const name of names) {
    while (!name.startsWith(prefix)) prefix = prefix.slice(0, -1);
  }
  return prefix.slice(0, prefix.lastIndexOf("_") + 1);
}

function parseHeader(source: string): HeaderNames {
  const text = source.replace(/\/\*[\s\S]*?\*\//g, " ").replace(/\/\/.*$/gm, " ");
  const defines: string[] = [];
  for (const match of text.matchAll(/^[ \t]*#[ \t]*define[ \t]+(KQ_\w+)[ \t]+\S/gm)) {
    defines.push(match[1]!);
  }
  const structs: StructNames[] = [];
  for (const match of text.matchAll(/\bstruct\s+(kq_\w+)\s*\{([^}]*)\}/g)) {
    const fields: string[] = [];
    for (const declaration of match[2]!.split(";")) {
      if (declaration.trim() === "") continue;
      const field = /(\w+)\s*(?:\[[^\]]*\]\s*)*$/.exec(declaration.trim());
      if (field === null || declaration.includes(",")) {
        throw new Error(`struct ${match[1]}: cannot read the declaration "${declaration.trim()}"`);
      }
      if (!/^pad\d*$/.test(field[1]!)) fields.push(field[1]!);
    }
    structs.push({ tag: match[1]!, fields });
  }
  const enums: EnumNames[] = [];
  for (const match of text.matchAll(/\benum\s+(kq_\w+)\s*\{([^}]*)\}/g)) {
    const enumerators = match[2]!
      .split(",")
      .map((enumerator) => enumerator.split("=")[0]!.trim())
      .filter((name) => name !== "");
    enums.push({ tag: match[1]!, enumerators });
  }
  return { defines, structs, enums };
}

/** A C program that prints one line a name: `key<TAB>value`. */
function printerSource(names: HeaderNames): string {
  const lines: string[] = [];
  const number = (key: string, expression: string): void => {
    lines.push(`  printf("%s\\t%llu\\n", "${key}", (unsigned long long)(${expression}));`);
  };
  for (const define of names.defines) {
    lines.push(
      `  _Generic((${define}), char *: print_text, default: print_number)` +
        `("${define}", VALUE(${define}));`,
    );
  }
  for (const { tag, fields } of names.structs) {
    number(`${tag} size`, `sizeof(struct ${tag})`);
    for (const field of fields) {
      number(`${tag}.${field} offset`, `offsetof(struct ${tag}, ${field})`);
      number(`${tag}.${field} size`, `sizeof(((struct ${tag} *)0)->${field})`);
    }
  }
  for (const { enumerators } of names.enums) {
    for (const enumerator of enumerators) number(enumerator, enumerator);
  }
  return `#include "kqtime_shm.h"
#include <stdio.h>
static void print_text(const char *key, unsigned long long value) {
  printf("%s\\t\\"%s\\"\\n", key, (const char *)(uintptr_t)value);
}
static void print_number(const char *key, unsigned long long value) {
  printf("%s\\t%llu\\n", key, value);
}
#define VALUE(x) ((unsigned long long)(uintptr_t)(x))
int main(void) {
${lines.join("\n")}
  return 0;
}
`;
}

/** Compiles and runs the printer; the map holds what it printed. */
function askCompiler(source: string): Map<string, string> {
  const folder = mkdtempSync(join(tmpdir(), "kqtime-layout-"));
  try {
    const program = join(folder, "print-layout");
    // CC may hold flags ("ccache gcc"), as make(1) allows.
    const [compiler = "cc", ...flags] = (process.env["CC"] || "cc").split(/\s+/).filter(Boolean);
    const compiled = spawnSync(
      compiler,
      [...flags, "-std=c11", "-x", "c", "-I", join(root, "c"), "-o", program, "-"],
      { input: source, encoding: "utf8" },
    );
    if (compiled.error) throw new Error(`${compiler}: ${compiled.error.message}`);
    if (compiled.status !== 0) throw new Error(`${compiler} failed:\n${compiled.stderr}`);
    const printed = spawnSync(program, [], { encoding: "utf8" });
    if (printed.status !== 0) throw new Error("the compiled program failed");
    const values = new Map<string, string>();
    for (const line of printed.stdout.split("\n")) {
      const tab = line.indexOf("\t");
      if (tab > 0) values.set(line.slice(0, tab), line.slice(tab + 1));
    }
    return values;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function renderObject(name: string, doc: string, members: [string, string][]): string {
  const body = members.map(([key, value]) => `  ${key}: ${value},`).join("\n");
  return `/** ${doc} */\nexport const ${name} = {\n${body}\n} as const;\n`;
}

function render(names: HeaderNames, values: Map<string, string>): string {
  const value = (key: string): string => {
    const found = values.get(key);
    if (found === undefined) throw new Error(`the compiled program did not print ${key}`);
    return found;
  };
  const parts: string[] = [];
  const numbers: [string, string][] = [];
  const environment: [string, string][] = [];
  for (const define of names.defines) {
    const text = value(define);
    if (define.startsWith("KQ_ENV_")) {
      environment.push([camel(define.slice("KQ_ENV_".length)), text]);
    } else {
      numbers.push([camel(define.slice("KQ_".length)), text]);
    }
  }
  const constants = "The numbers of the header: `KQ_SLOT_BYTES` is `slotBytes`.";
  parts.push(renderObject("Constant", constants, numbers));
  parts.push(renderObject("Env", "Environment variables of a measured process.", environment));
  for (const { tag, enumerators } of names.enums) {
    const prefix = commonPrefix(enumerators);
    parts.push(
      renderObject(
        exported(tag),
        `enum ${tag}`,
        enumerators.map((name) => [pascal(name.slice(prefix.length)), value(name)]),
      ),
    );
  }
  for (const { tag, fields } of names.structs) {
    const name = exported(tag);
    const offset = (field: string): string => value(`${tag}.${field} offset`);
    const words = fields.filter((field) => Number(offset(field)) % 4 === 0);
    parts.push(
      renderObject(
        name,
        `struct ${tag}: offset of each field in bytes.`,
        fields.map((field) => [camel(field), offset(field)]),
      ),
      renderObject(
        `${name}Word`,
        `struct ${tag}: index of the u32 at which a field starts; a u64's upper half follows.`,
        words.map((field) => [camel(field), String(Number(offset(field)) / 4)]),
      ),
      renderObject(`${name}Bytes`, `struct ${tag}: size of each field, and of the whole, in bytes.`, [
        ...fields.map((field): [string, string] => [camel(field), value(`${tag}.${field} size`)]),
        ["total", value(`${tag} size`)],
      ]),
    );
  }
  return `// Generated from c/kqtime_shm.h by tools/gen-layout.ts: do not edit, run
// \`bun tools/gen-layout.ts\`. The offsets are the C compiler's own.

${parts.join("\n")}`;
}

/** The text that src/ring/layout.ts must have. */
export function generateLayout(): string {
  const names = parseHeader(readFileSync(headerPath, "utf8"));
  return render(names, askCompiler(printerSource(names)));
}

function main(): number {
  const text = generateLayout();
  if (!process.argv.includes("--check")) {
    writeFileSync(layoutPath, text);
    return 0;
  }
  let present = "";
  try {
    present = readFileSync(layoutPath, "utf8");
  } catch {
    // A missing file is as stale as a different one.
  }
  if (present === text) return 0;
  console.error(
    "src/ring/layout.ts does not agree with c/kqtime_shm.h: run `bun tools/gen-layout.ts`",
  );
  return 1;
}

if (import.meta.main) process.exit(main());
