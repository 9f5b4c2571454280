/** A property test of the network card: any buffers, any frames, a backend that is full now and then. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NET_HEADER_BYTES as HEADER_BYTES } from '../../../src/devices/backends/net.js';
import { VIRTIO_NET_F_MRG_RXBUF } from '../../../src/devices/net/net.js';
import { VIRTIO_F_VERSION_1 } from '../../../src/virtio/features.js';
import { budget } from '../../support/fuzz.js';
import type { MockQueue } from '../../support/mock-driver.js';
import { bench, buffersOf, frame, HEADER } from '../../support/net-bench.js';

test('Net sends and receives every frame whole and in order, over any buffers', () => {
  const frames = fc.array(
    fc.integer({ min: 14, max: 3000 }).map((length) => frame(length, length)),
    { minLength: 1, maxLength: 12 },
  );
  const step = fc.oneof(
    fc.record({ kind: fc.constant('room' as const), sizes: fc.array(fc.integer({ min: 12, max: 2000 })) }),
    fc.record({ kind: fc.constant('deliver' as const), frames }),
    fc.record({ kind: fc.constant('send' as const), frames, cut: fc.integer({ min: 1, max: 40 }) }),
    fc.record({ kind: fc.constant('capacity' as const), count: fc.nat(3) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), fc.boolean(), (steps, mergeable) => {
      const features = VIRTIO_F_VERSION_1 | (mergeable ? VIRTIO_NET_F_MRG_RXBUF : 0n);
      const { cable, rx, tx, rig, net } = bench({ features, queueSize: 64, mtu: 9000 });
      const room = new Map<number, Parameters<MockQueue['written']>[0]>();
      const delivered: Uint8Array[] = [];
      const received: Uint8Array[] = [];
      const sent: Uint8Array[] = [];
      let outstanding = 0;
      const collect = (): void => {
        const used = rx.used();
        for (let i = 0; i < used.length; ) {
          const entry = used[i] as (typeof used)[number];
          const bytes = (at: number): Uint8Array => {
            const { head, length } = used[at] as (typeof used)[number];
            const request = room.get(head) as Parameters<MockQueue['written']>[0];
            room.delete(head);
            return rx.written(request).subarray(0, length);
          };
          const first = bytes(i++);
          if (entry.length === 0) continue;
          const parts = [first];
          for (let more = buffersOf(first) - 1; more > 0; more--) parts.push(bytes(i++));
          received.push(Buffer.concat(parts).subarray(HEADER_BYTES));
        }
        outstanding -= tx.used().length;
      };
      for (const action of steps) {
        switch (action.kind) {
          case 'room':
            for (const size of action.sizes) {
              if (room.size >= 64) break;
              const request = rx.add([], [size]);
              room.set(request.head, request);
            }
            rx.kick();
            break;
          case 'deliver':
            delivered.push(...action.frames);
            cable.deliver(...action.frames);
            break;
          case 'send':
            for (const bytes of action.frames) {
              if (outstanding >= 16) break; // of up to three descriptors each
              tx.add(
                [HEADER, bytes.subarray(0, action.cut), bytes.subarray(action.cut)].filter(
                  (b) => b.length > 0,
                ),
                [],
              );
              outstanding++;
              sent.push(bytes);
            }
            tx.kick();
            break;
          case 'capacity':
            cable.drain(action.count);
            break;
          default:
            action satisfies never;
        }
        rig.runDeferred();
        collect();
      }
      expect(rig.failures).toEqual([]);
      const equal = (a: Uint8Array | undefined, b: Uint8Array): boolean =>
        a !== undefined && Buffer.compare(a, b) === 0;
      expect(cable.sent.every((bytes, i) => equal(sent[i], bytes))).toBe(true);
      expect(sent.length - cable.sent.length).toBe(outstanding);
      // What was received is what was delivered, without what was dropped for want of a buffer that is large enough.
      let at = 0;
      for (const bytes of received) {
        while (at < delivered.length && !equal(delivered[at], bytes)) at++;
        expect(at).toBeLessThan(delivered.length);
        at++;
      }
      expect(received.length + net.counters.dropped + cable.waiting.length).toBe(delivered.length);
    }),
    budget(150, 20261125),
  );
});
