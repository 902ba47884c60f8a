// Opens a live capture and prints what came of it.

import { KQTimeError } from "../../src/errors.ts";
import { Capture } from "../../src/ffi/libpcap.ts";

const options = JSON.parse(process.argv[2]) as object;
try {
  const capture = Capture.live({
    interface: "any",
    filter: "tcp",
    bufferBytes: 1 << 20,
    timeoutMs: 10,
    ...options,
  });
  const { linkType, bufferBytes, warnings, fd, bytes } = capture;
  console.log(JSON.stringify({ linkType, bufferBytes, warnings, fd, snaplen: bytes.length }));
  capture.close();
} catch (error) {
  if (!(error instanceof KQTimeError)) throw error;
  const { code, message, exitCode } = error;
  console.log(JSON.stringify({ error: { code, message, exitCode } }));
}
