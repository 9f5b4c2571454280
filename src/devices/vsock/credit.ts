/**
 * Buffer space of one vsock connection, both ways (virtio 1.3, 5.10.6.3). All counters run free and wrap at 2^32.
 *
 * @spec virtio-1.3 5.10.6.3  Buffer space management  #yes
 */
import assert from 'node:assert';
import { BUF_ALLOC_BYTES } from '../backends/vsock.js';

/** The guest is told of room when this much of it is news; half, so that it need not stand still meanwhile. */
const UPDATE_BYTES = BUF_ALLOC_BYTES / 2;

export class Credit {
  // To the guest: its buffer, and what was sent into it.
  #peerBufAlloc = 0;
  #peerFwdCnt = 0;
  #txCnt = 0;
  // From the guest: what came, what the host is done with, and what of that the guest was told.
  #rxCnt = 0;
  #fwdCnt = 0;
  #announced = 0;

  /** Takes what a packet of the guest's says of its buffer. It may lie: less than nothing is nothing. */
  update(bufAlloc: number, fwdCnt: number): void {
    this.#peerBufAlloc = bufAlloc;
    this.#peerFwdCnt = fwdCnt;
  }

  /** Bytes that the guest has room for: peer_buf_alloc - (tx_cnt - peer_fwd_cnt). */
  get sendable(): number {
    return Math.max(this.#peerBufAlloc - ((this.#txCnt - this.#peerFwdCnt) >>> 0), 0);
  }

  sent(count: number): void {
    this.#txCnt = (this.#txCnt + count) >>> 0;
  }

  /** Bytes that came and that the host is not done with. */
  get held(): number {
    return (this.#rxCnt - this.#fwdCnt) >>> 0;
  }

  /** Counts bytes from the guest. False, and not counted: more than there is room for. */
  receive(count: number): boolean {
    if (count > BUF_ALLOC_BYTES - this.held) return false;
    this.#rxCnt = (this.#rxCnt + count) >>> 0;
    return true;
  }

  /** The host is done with `count` bytes. */
  consume(count: number): void {
    assert(count <= this.held, `vsock: ${count} bytes consumed of ${this.held}`);
    this.#fwdCnt = (this.#fwdCnt + count) >>> 0;
  }

  /** There is room that the guest does not know of, and may be waiting for. */
  get updateDue(): boolean {
    return (this.#fwdCnt - this.#announced) >>> 0 >= UPDATE_BYTES;
  }

  /** fwd_cnt for the header of a packet that goes out now. */
  announce(): number {
    this.#announced = this.#fwdCnt;
    return this.#fwdCnt;
  }
}
