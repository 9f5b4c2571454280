import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MAX_FRAME_BYTES } from '../../../src/devices/backends/net.js';
import { BATCH_BYTES, FrameBatcher, FrameDecoder, MAX_BATCHES } from '../../../src/host/net/frame-stream.js';
import { frameSource } from '../../support/test-cable.js';

const frame = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);

function encode(frames: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    frames.flatMap((bytes) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      return [length, bytes];
    }),
  );
}

const anyFrame = fc
  .tuple(fc.oneof(fc.integer({ min: 14, max: 200 }), fc.constantFrom(1514, MAX_FRAME_BYTES)), fc.nat(255))
  .map(([length, value]) => frame(length, value));

describe('FrameDecoder', () => {
  test('finds the same frames wherever the stream is cut, and whoever refuses them how often', () => {
    fc.assert(
      fc.property(
        fc.array(anyFrame, { maxLength: 8 }),
        fc.array(fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 70_000 })), {
          minLength: 1,
          maxLength: 20,
        }),
        fc.array(fc.boolean(), { minLength: 1, maxLength: 20 }),
        (frames, cuts, refusals) => {
          const taken: Uint8Array[] = [];
          let offers = 0;
          const decoder = new FrameDecoder((bytes) => {
            if (refusals[offers++ % refusals.length] === true && offers % 3 !== 0) return false;
            taken.push(bytes.slice());
            return true;
          });
          const stream = encode(frames);
          let cut = 0;
          for (let at = 0; at < stream.length; ) {
            const length = cuts[cut++ % cuts.length] as number;
            let done = decoder.push(stream.subarray(at, at + length));
            while (!done) done = decoder.resume();
            at += length;
          }
          expect(taken.length).toBe(frames.length);
          expect(taken.every((bytes, i) => Buffer.compare(bytes, frames[i] as Uint8Array) === 0)).toBe(true);
        },
      ),
      { seed: 20261125, numRuns: 200 },
    );
  });

  test('goes on with nothing when nothing was refused', () => {
    const decoder = new FrameDecoder(() => true);
    expect(decoder.resume()).toBe(true);
    expect(decoder.push(new Uint8Array(0))).toBe(true);
    expect(decoder.push(encode([frame(60, 1)]).subarray(0, 30))).toBe(true);
    expect(decoder.resume()).toBe(true);
  });

  test.each([0, 13, MAX_FRAME_BYTES + 1, 0xffff_ffff])('refuses a length of %i for good', (length) => {
    const bytes = Buffer.alloc(100);
    bytes.writeUInt32BE(length);
    const whole = new FrameDecoder(() => true);
    expect(() => whole.push(bytes)).toThrow(RangeError);
    const split = new FrameDecoder(() => true);
    split.push(bytes.subarray(0, 3));
    expect(() => split.push(bytes.subarray(3))).toThrow(RangeError);
  });
});

describe('FrameBatcher', () => {
  interface Written {
    readonly bytes: Uint8Array;
    readonly done: () => void;
  }

  function batcher(): { batcher: FrameBatcher; written: Written[]; wakes: () => number } {
    const written: Written[] = [];
    let wakes = 0;
    const made = new FrameBatcher(
      (bytes, done) => void written.push({ bytes, done }),
      () => wakes++,
    );
    return { batcher: made, written, wakes: () => wakes };
  }

  test('writes what it was given, many frames at once', () => {
    fc.assert(
      fc.property(fc.array(anyFrame, { maxLength: 12 }), (frames) => {
        const { batcher: made, written } = batcher();
        const out: Buffer[] = [];
        for (const bytes of frames) {
          if (!made.writable) break;
          made.add(frameSource(bytes));
        }
        made.flush();
        for (let i = 0; i < written.length; i++) {
          out.push(Buffer.from(written[i]?.bytes ?? []));
          written[i]?.done();
        }
        const all = Buffer.concat(out);
        expect(encode(frames).subarray(0, all.length).equals(all)).toBe(true);
        expect(written.every(({ bytes }) => bytes.length <= BATCH_BYTES)).toBe(true);
      }),
      { seed: 20261125, numRuns: 100 },
    );
  });

  test('writes small frames in one go, and nothing when there are none', () => {
    const { batcher: made, written } = batcher();
    made.flush();
    for (let i = 0; i < 20; i++) made.add(frameSource(frame(60, i)));
    expect(written).toHaveLength(0);
    made.flush();
    made.flush();
    expect(written.map(({ bytes }) => bytes.length)).toEqual([20 * 64]);
  });

  test('says when it is full and when it has room again, and never holds more than its batches (hostile 44)', () => {
    const { batcher: made, written, wakes } = batcher();
    let frames = 0;
    for (; made.writable; frames++) made.add(frameSource(frame(60, 0)));
    made.flush();
    expect(frames).toBeLessThanOrEqual((MAX_BATCHES * BATCH_BYTES) / 64);
    expect([made.writable, wakes()]).toEqual([false, 0]);
    written[0]?.done();
    expect([made.writable, wakes()]).toEqual([true, 1]);
    written[1]?.done();
    expect(wakes()).toBe(1);
    made.add(frameSource(frame(MAX_FRAME_BYTES, 1)));
    made.flush();
    for (let i = 2; i < written.length; i++) written[i]?.done();
    expect(written).toHaveLength(MAX_BATCHES + 1);
    expect(written.at(-1)?.bytes).toHaveLength(MAX_FRAME_BYTES + 4);
  });

  test('writes one batch at a time, so that nobody makes one write of two', () => {
    const { batcher: made, written } = batcher();
    for (let i = 0; i < 3; i++) {
      made.add(frameSource(frame(MAX_FRAME_BYTES, i)));
      made.flush();
    }
    for (let i = 0; i < 3; i++) {
      expect(written).toHaveLength(i + 1);
      expect(written[i]?.bytes[4]).toBe(i);
      written[i]?.done();
    }
    expect(written).toHaveLength(3);
  });
});
