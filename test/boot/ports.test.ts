/** Named ports of the guest's, which programs of the host's connect to. */

import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { virtioConsole } from '../../src/devices/console/console.js';
import { temporaryDirectory } from '../support/guest.js';
import { Shell } from '../support/shell.js';

const root = temporaryDirectory();

/** A program of the host's at a port. */
class Client {
  text = '';
  readonly socket: Socket;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding('latin1').on('data', (text: string) => {
      this.text += text;
    });
  }

  static async at(path: string): Promise<Client> {
    const socket = connect(path);
    await once(socket, 'connect');
    return new Client(socket);
  }

  async until(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.text)) await once(this.socket, 'data');
  }

  async leave(): Promise<void> {
    this.socket.end();
    this.socket.resume();
    await once(this.socket, 'close');
  }
}

/** Shell functions: the device file of the port of a name, and a write that says in /tmp/NAME when it is done. */
const FUNCTIONS = [
  'port() { for n in /sys/class/virtio-ports/*; do [ "$(cat $n/name)" != $1 ] || echo /dev/$(basename $n); done; }',
  'say() { (echo "$2" > "$1"; echo done > "/tmp/$2") & }',
  'said() { for i in $(seq 1000); do [ ! -e "/tmp/$1" ] || break; usleep 10000; done; cat "/tmp/$1"; }',
].join('; ');

const BULK_BYTES = 200_000;

test('a port carries bytes both ways, waits for clients, and lives on in copies of the machine', async () => {
  // Of this try's own: one that hung still has its machine.
  const place = mkdtempSync(join(root, 'try-'));
  const path = (name: string): string => join(place, `${name}.sock`);
  const ports = [
    { name: 'log', path: path('log') },
    { name: 'agent', path: path('agent') },
  ];
  await using shell = await Shell.booted({ devices: [virtioConsole({ console: false, ports })] });
  await shell.run(FUNCTIONS);
  expect(await shell.run('log=$(port log) agent=$(port agent); echo $log $agent')).toMatch(
    /^\/dev\/(vport\d)p1 \/dev\/\1p2\n$/,
  );

  // Nobody is there: what is written waits, and what is read has an end.
  expect(await shell.run('say $log early; cat $agent | wc -c; ls /tmp/early')).toMatch(/^0\n.*No such file/);
  const reader = await Client.at(path('log'));
  await reader.until(/early\n/);
  expect(await shell.run('said early')).toBe('done\n');

  // Somebody is: a stream each way, and the end when they leave. Until they come, the guest reads an end at once.
  shell.type(
    'until wc -c < $agent > /tmp/count; [ $(cat /tmp/count) != 0 ]; do :; done; echo counted > /tmp/counted',
  );
  const writer = await Client.at(path('agent'));
  writer.socket.write('x'.repeat(BULK_BYTES));
  await writer.leave();
  expect(await shell.run('said counted; cat /tmp/count')).toBe(`counted\n${BULK_BYTES}\n`);
  reader.text = '';
  shell.type(`head -c ${BULK_BYTES} /dev/zero | tr '\\0' x > $log; echo end > $log`);
  await reader.until(/^x+end\n$/);
  expect(reader.text.length).toBe(BULK_BYTES + 4);

  // A saved machine has nobody at its ports when it goes on.
  const folder = join(place, 'saved');
  await shell.machine.snapshot(folder);
  await expect(Shell.restored(folder)).rejects.toMatchObject({ code: 'TSVM_BINDING' });
  const taken = { log: path('log'), agent: path('agent') };
  await expect(Shell.restored(folder, { ports: taken })).rejects.toMatchObject({ code: 'TSVM_PORT' });
  await expect(Shell.restored(folder, { ports: { nope: 'x' } })).rejects.toThrow(/no port nope/);
  const elsewhere = { log: path('log-2'), agent: path('agent-2') };
  await using restored = await Shell.restored(folder, { ports: elsewhere });
  expect(await restored.run('say $log restored; ls /tmp/restored')).toMatch(/No such file/);
  await (await Client.at(elsewhere.log)).until(/restored\n/);

  // A fork has its ports to itself; its parent has the paths.
  const [machine] = await shell.machine.fork(1);
  if (machine === undefined) throw new Error('no fork');
  await using fork = new Shell(machine);
  expect(await fork.run('say $log forked; ls /tmp/forked')).toMatch(/No such file/);
  reader.text = '';
  expect(await shell.run('say $log parent; said parent')).toBe('done\n');
  await reader.until(/^parent\n$/);
}, 100_000);
