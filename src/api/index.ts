/// <reference lib="esnext.disposable" preserve="true" />
// What `import … from "kqtime"` gives. Nothing happens at import.

export { KQTimeError } from "../errors.ts";
export { KQTime } from "./kqtime.ts";
export { Samples } from "./samples.ts";
export type { OpenOptions, Peer, Registrable, SampleOptions } from "./options.ts";
export type { DescriptorHolder, StreamSocket } from "./options.ts";
export type { CallSample, MissSample, Sample } from "./sample.ts";
export type { Summary } from "../output/summary.ts";
export type {
  BothSummary,
  Direction,
  Distribution,
  InSummary,
  Losses,
  OutSummary,
  SocketSummary,
} from "../output/summary.ts";
