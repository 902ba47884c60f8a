// Collects what the join would log, as comparable text. The number of the socket is left out: it
// depends on which birth was read first.

import type { CallSink } from "../../src/match/merge.ts";

export class LineSink implements CallSink {
  readonly lines: string[] = [];

  call(
    direction: number,
    startNs: number,
    endNs: number,
    firstNs: number,
    inorderNs: number,
    bytes: number,
    off: number,
    pid: number,
    fd: number,
    _sock: number,
    lport: number,
    rport: number,
  ): void {
    const inorder = direction === 1 ? `,inorder=${inorderNs}` : "";
    this.lines.push(
      `call ${direction} ${startNs}-${endNs},first=${firstNs}${inorder},bytes=${bytes},off=${off},` +
        `pid=${pid},fd=${fd},${lport}-${rport}`,
    );
  }

  miss(
    direction: number,
    startNs: number,
    _endNs: number,
    bytes: number,
    off: number,
    pid: number,
    fd: number,
    _sock: number,
    lport: number,
    rport: number,
    reason: number,
  ): void {
    this.lines.push(
      `miss ${direction} ${startNs},bytes=${bytes},off=${off},pid=${pid},fd=${fd},` +
        `${lport}-${rport},reason=${reason}`,
    );
  }
}
