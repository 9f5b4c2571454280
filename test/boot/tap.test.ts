/** The default guest at a TAP interface, in a network namespace of the test's own: what goes through it uncut arrives whole. */
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run, TSVM } from '../support/cli.js';
import { temporaryDirectory } from '../support/guest.js';
import { tapProblem } from '../support/tap-problem.js';

const TIMEOUT_MS = 280_000;
const BYTES = 1 << 20;
const [HOST, GUEST] = ['10.99.0.1', '10.99.0.2'];
const folder = temporaryDirectory();

/** Gives its file to whoever asks at 8000, and says the sum of what it is given at 9000. */
const SERVER = `
const { createHash } = require('node:crypto');
require('node:http').createServer((_, response) => response.end(require('node:fs').readFileSync(process.argv[1]))).listen(8000, '${HOST}');
require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
  const hash = createHash('md5');
  socket.on('data', (bytes) => hash.update(bytes)).on('end', () => socket.end(hash.digest('hex') + '\\n'));
}).listen(9000, '${HOST}');
`;
const SCRIPT = `
wget -q -O - http://${HOST}:8000/ | md5sum
head -c ${BYTES} /dev/urandom >/sent; md5sum </sent; nc ${HOST} 9000 </sent
cat /sys/bus/virtio/devices/virtio0/features`;
const SET_UP = `
set -e
ip tuntap add dev tap0 mode tap; ip addr add ${HOST}/24 dev tap0; ip link set tap0 up
"$1" -e "$2" "$5" & server=$!
status=0
"$1" "$3" boot --memory 64M --net tap,name=tap0 --append ip=${GUEST}::${HOST}:255.255.255.0::eth0:off -- sh -c "$4" || status=$?
kill $server
exit $status`;

const why = tapProblem();
const name = 'bytes arrive as they were sent, with checksums and segments left to the host';

test(name, { timeout: TIMEOUT_MS }, async ({ skip }) => {
  skip(why !== undefined, why);
  const data = randomBytes(BYTES);
  const file = join(folder, 'data');
  writeFileSync(file, data);
  const args = ['-n', 'sh', '-c', SET_UP, 'sh', process.execPath, SERVER, TSVM, SCRIPT, file];
  const { status, stdout, stderr } = await run('unshare', args, {
    timeoutMs: TIMEOUT_MS - 10_000,
    env: { TSVM_TEMPLATE_DIR: join(folder, 'templates') },
  });
  const [received, sent, arrived, features] = stdout.toString().split('\n');
  expect([status, received], stderr).toEqual([0, `${createHash('md5').update(data).digest('hex')}  -`]);
  expect(arrived).toBe(sent?.slice(0, 32));
  // CSUM, GUEST_CSUM; GUEST_TSO4, _TSO6, _ECN; HOST_TSO4, _TSO6, _ECN
  expect(features).toMatch(/^11.{5}111.111/);
});
