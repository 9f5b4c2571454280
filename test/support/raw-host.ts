/** Host that sends an agent whatever it is told to, frame by frame. */
import type { Duplex } from 'node:stream';
import { frame, number32 } from '../../src/agent/frames.js';
import { AGENT_VERSION, FRAME, MAX_PAYLOAD_BYTES } from '../../src/agent/protocol.js';
import { type Operand, type RequestOption, requestBytes } from '../../src/agent/strings.js';

/** Bytes to the agent, and whether it has closed the connection. */
export class RawHost {
  readonly #duplex: Duplex;
  received = Buffer.alloc(0);
  isClosed = false;

  constructor(duplex: Duplex) {
    this.#duplex = duplex;
    duplex.on('data', (bytes: Buffer) => {
      this.received = Buffer.concat([this.received, bytes]).subarray(-MAX_PAYLOAD_BYTES);
    });
    for (const event of ['error', 'close', 'end']) duplex.on(event, () => (this.isClosed = true));
  }

  send(...frames: readonly Uint8Array[]): this {
    for (const bytes of frames) if (!this.isClosed) this.#duplex.write(bytes);
    return this;
  }

  close(): void {
    this.#duplex.destroy();
  }
}

export const HELLO = frame(FRAME.HELLO, 0, 0, number32(AGENT_VERSION));
export const request = (
  session: number,
  operation: string,
  options: readonly RequestOption[] = [],
  operands: readonly Operand[] = [],
): Buffer => frame(FRAME.REQUEST, session, 1, requestBytes(operation, options, operands));
