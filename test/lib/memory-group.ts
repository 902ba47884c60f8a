// A memory cgroup of a test's own, of whichever version of cgroups the machine has.

import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Scope, until } from "./process.ts";

const FIRST = "/sys/fs/cgroup/memory";
const SECOND = "/sys/fs/cgroup";

let groups = 0;

export class MemoryGroup {
  readonly #folder: string;
  readonly #isFirst: boolean;

  private constructor(folder: string, isFirst: boolean) {
    this.#folder = folder;
    this.#isFirst = isFirst;
  }

  /** @throws where no such group can be made */
  static make(scope: Scope): MemoryGroup {
    const isFirst = existsSync(join(FIRST, "memory.limit_in_bytes"));
    if (!isFirst) writeFileSync(join(SECOND, "cgroup.subtree_control"), "+memory");
    const folder = join(isFirst ? FIRST : SECOND, `kqtime-test-${process.pid}-${groups++}`);
    mkdirSync(folder);
    scope.finally(() => until("an empty group", () => {
      try {
        rmdirSync(folder);
        return true;
      } catch {
        return false;
      }
    }).then(() => {}));
    return new MemoryGroup(folder, isFirst);
  }

  /** Words that put a command into the group. */
  get prefix(): readonly string[] {
    return ["sh", "-c", `echo $$ > ${this.#folder}/cgroup.procs; exec "$@"`, "sh"];
  }

  get usedBytes(): number {
    return Number(this.#read(this.#isFirst ? "memory.usage_in_bytes" : "memory.current"));
  }

  limit(bytes: number): void {
    const name = this.#isFirst ? "memory.limit_in_bytes" : "memory.max";
    writeFileSync(join(this.#folder, name), `${Math.ceil(bytes / 4096) * 4096}`);
  }

  /** Processes that the kernel has killed for its limit. */
  get kills(): number {
    const text = this.#read(this.#isFirst ? "memory.oom_control" : "memory.events");
    return Number(/^oom_kill (\d+)$/m.exec(text)![1]);
  }

  #read(name: string): string {
    return readFileSync(join(this.#folder, name), "utf8");
  }
}
