// A machine with a device that is written here: a random number generator (virtio 1.3, 5.4) that is not random at all.
import { createMachine, findGuest } from 'tsvm';

class Sixes {
  name = 'sixes';
  deviceId = 4;
  features = 0n;
  queueSizes = [8];

  activate() {}
  reset() {}

  // The driver put buffers on the queue: fill each, and give it back.
  notify(queue) {
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const count = Math.min(chain.writer.remaining, 4096);
      for (const bytes of chain.writer.take(count)) bytes.fill(0x36);
      queue.complete(chain, count);
    }
    queue.signal();
  }
}

const guest = await findGuest();
const machine = await createMachine({
  ...guest,
  memoryBytes: 64 * 2 ** 20,
  devices: [{ kind: 'sixes', open: async () => new Sixes() }],
  command: { argv: ['head', '-c', '8', '/dev/hwrng'], tty: false },
});
machine.on('console', (bytes) => process.stdout.write(bytes));
await machine.start();
await machine.wait();
console.log(); // after 66666666
