// Who reads the rings of a session.

/** What the rings' contents go to, in the order in which they were read. */
export interface RecordFeed {
  /** The records that a drain reads from now on were stamped before now. */
  lookAtClock?(): void;
  addTable(): number;
  endTable(table: number): void;
  isUnknown(table: number, entry: number, generation: number): boolean;
  entry(table: number, entry: number, words: Uint32Array): void;
  record(table: number, words: Uint32Array): void;
}
