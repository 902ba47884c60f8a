// `kqtime replay`: feeds a recording to the join again, for the identical log and summary.

import { join } from "node:path";
import { PacketBatch } from "../capture/packets.ts";
import { PacketSource } from "../capture/source.ts";
import { KQTimeError } from "../errors.ts";
import { Capture } from "../ffi/libpcap.ts";
import { Log } from "../output/log.ts";
import type { Summary } from "../output/summary.ts";
import { Join, type JoinEnd, type JoinSetup } from "./join.ts";
import { Frame, HEADERS_FILE, readTape } from "./tape.ts";

export interface ReplayOptions {
  readonly folder: string;
  readonly log: string | null;
  readonly onWarning: (message: string) => void;
}

/** @throws KQTimeError `E_RECORD`, `E_PCAP_FILE`, `E_LOG` */
export function replay(options: ReplayOptions): Summary {
  const frames = readTape(options.folder);
  const first = frames.next();
  if (first.done === true || first.value.type !== Frame.Setup) throw broken(options.folder);
  const setup = first.value.text() as JoinSetup;
  const { baseSec } = setup;
  const capture = Capture.savefile(join(options.folder, HEADERS_FILE));
  try {
    const log =
      options.log === null
        ? null
        : Log.open(options.log, { baseSec, onError: options.onWarning });
    const target = new Join(setup, log);
    const { engine } = target;
    const source = new PacketSource(capture, baseSec);
    const batch = new PacketBatch(4096);
    const numbers = new Float64Array(2);
    const numberWords = new Uint32Array(numbers.buffer);
    const { drops } = engine.instances;
    let end: JoinEnd | null = null;
    for (const { type, words, text } of frames) {
      switch (type) {
        case Frame.Table:
          engine.addTable();
          break;
        case Frame.EndTable:
          engine.endTable(words[0]!);
          break;
        case Frame.Entry:
          engine.entry(words[0]!, words[1]!, words.subarray(2));
          break;
        case Frame.Record:
          engine.record(words[0]!, words.subarray(1));
          break;
        case Frame.Packets:
          numberWords.set(words.subarray(1, 5));
          drops.now = numbers[0]!;
          drops.drained = numbers[1]!;
          if (source.read(batch, words[0]!) < words[0]!) throw broken(options.folder);
          engine.packets(batch);
          break;
        case Frame.Tick:
          numberWords.set(words.subarray(0, 4));
          engine.ringRecords = numbers[1]!;
          engine.tick(numbers[0]!);
          break;
        case Frame.Queued:
          numberWords.set(words.subarray(0, 4));
          engine.queued(numbers[0]!, numbers[1]!);
          break;
        case Frame.Inner:
          engine.innerDevices.clear();
          for (const index of words) engine.innerDevices.add(index);
          break;
        case Frame.Flush:
          engine.flush();
          break;
        case Frame.End:
          end = text() as JoinEnd;
          break;
        default:
          throw broken(options.folder);
      }
    }
    if (end === null) {
      throw new KQTimeError(
        "E_RECORD",
        "read",
        `the recording in ${options.folder} is cut off: kqtime was killed before it wrote the end`,
      );
    }
    return target.finish(end);
  } finally {
    capture.close();
  }
}

function broken(folder: string): KQTimeError {
  return new KQTimeError(
    "E_RECORD",
    "read",
    `the recording in ${folder} is damaged: its files do not belong together, or hold unknown frames`,
  );
}
