// Reads what `bun test --reporter=junit` wrote: only its test cases, only what the driver prints.

export type Outcome = "passed" | "failed" | "skipped";

export interface TestCase {
  /** Groups and name, joined by " > ". */
  name: string;
  outcome: Outcome;
  seconds: number;
  /** Why it was skipped, as the end of its name tells (test/lib/requires.ts); empty if not. */
  reason: string;
}

/** The end of a skipped test's name: `… [skipped: needs root]`. */
export const skipReason = / \[(?:skipped: )?([^\]]+)\]$/;

const entities: Record<string, string> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };

function decode(text: string): string {
  return text.replace(/&(?:#x([0-9a-f]+)|#(\d+)|(\w+));/gi, (whole, hex, decimal, name) => {
    if (hex !== undefined) return String.fromCodePoint(parseInt(hex, 16));
    if (decimal !== undefined) return String.fromCodePoint(Number(decimal));
    return entities[name] ?? whole;
  });
}

function attribute(tag: string, name: string): string {
  const found = new RegExp(` ${name}="([^"]*)"`).exec(tag);
  return found === null ? "" : decode(found[1]!);
}

/** The test cases of one report, in its order. */
export function parseJunit(xml: string): TestCase[] {
  const cases: TestCase[] = [];
  // `>` is escaped within Bun's attributes, so a tag ends at the first one.
  for (const match of xml.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)) {
    const [, tag = "", body = ""] = match;
    // Bun writes the groups innermost first.
    const groups = attribute(tag, "classname").split(" > ").filter(Boolean).reverse();
    const own = attribute(tag, "name");
    const outcome = /<(failure|error)\b/.test(body)
      ? "failed"
      : /<skipped\b/.test(body)
        ? "skipped"
        : "passed";
    const todo = /<skipped[^>]*message="TODO"/.test(body) ? "todo" : "";
    cases.push({
      name: [...groups, own].join(" > "),
      outcome,
      seconds: Number(attribute(tag, "time")) || 0,
      reason: outcome === "skipped" ? (skipReason.exec(own)?.[1] ?? todo) : "",
    });
  }
  return cases;
}
