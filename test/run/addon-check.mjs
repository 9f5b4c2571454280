/** Loads the addon and uses all of it that needs no KVM and no privilege: for versions of Node that it was not built with. */
import assert from 'node:assert';
import { closeSync, readSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants } from 'node:os';

const PAGE_BYTES = 4096;
const addon = createRequire(import.meta.url)('../../kvm-addon/build/Release/kvm_addon.node');

const memory = addon.createMemory(16 * PAGE_BYTES, 'check');
const bytes = new Uint8Array(memory.buffer);
bytes.fill(7, 2 * PAGE_BYTES, 5 * PAGE_BYTES);
assert.deepEqual([...memory.dataPages()], [2, 3]);
memory.freeze();
const copy = addon.createMemory(16 * PAGE_BYTES, 'copy');
copy.mapMemory(memory);
assert.equal(new Uint8Array(copy.buffer)[3 * PAGE_BYTES], 7);
copy.close();
memory.close();
assert.equal(bytes.length, 0, 'a closed memory is detached');

const event = addon.createEventFd();
const heard = new Promise((resolve) => event.listen(resolve));
const alive = setTimeout(() => assert.fail('an event was not heard of'), 10_000); // listen() keeps nothing alive
event.signal();
await heard;
clearTimeout(alive);
event.close();

const file = addon.memfd('check');
await addon.fallocate(file, 0, 0, 3 * PAGE_BYTES);
writeSync(file, 'hello', 2 * PAGE_BYTES);
assert.equal(addon.flock(file, 'exclusive'), true);
const target = new Uint8Array(5);
const done = new Promise((resolve) => {
  const io = addon.openDiskIo(file, 1, (results) => resolve([io, ...results]));
  io.submit(1, 'read', [target], 2 * PAGE_BYTES);
});
const [io, id, count] = await done;
assert.deepEqual([id, count, Buffer.from(target).toString()], [1, 5, 'hello']);
io.close();
assert.equal(readSync(file, target, 0, 5, 2 * PAGE_BYTES), 5);
closeSync(file);

const { code, errno } = await addon.fallocate(-1, 0, 0, 1).catch((error) => error);
assert.deepEqual([code, errno], ['EBADF', -constants.errno.EBADF]);
assert.throws(() => addon.openKvm('/nowhere'), { code: 'ENOENT', syscall: 'open' });
console.log(`the addon works on Node ${process.version}`);
