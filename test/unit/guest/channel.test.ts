/** The host's side of the channel, without a machine: the ports of the device are played. */
import { getEventListeners, once } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { PortControl, PortHost } from '../../../src/devices/backends/console.js';
import { MachineChannel } from '../../../src/guest/channel.js';
import type { GuestFacts } from '../../../src/guest/facts.js';
import { CHANNEL_PORTS, PROTOCOL_VERSION } from '../../../src/guest/protocol.js';

/** No facts but those that are given. */
const AS_IS = { fresh: false };

/** A device's port that takes `room` bytes and then no more until it is drained. */
class FakePort implements PortControl {
  setHostOpen(): void {}

  readonly host: PortHost;
  readonly taken: number[] = [];
  room = Number.POSITIVE_INFINITY;
  closed = 0;
  resumed = 0;
  onResume: () => void = () => {};

  constructor(host: PortHost) {
    this.host = host;
    host.connect(this);
  }

  input(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, this.room);
    this.room -= count;
    this.taken.push(...bytes.subarray(0, count));
    return count;
  }

  close(): void {
    this.closed++;
  }

  resumeOutput(): void {
    this.resumed++;
    this.onResume();
  }

  get text(): string {
    return Buffer.from(this.taken).toString();
  }
}

function setUp(console: 'serial' | 'none' = 'serial') {
  const channel = new MachineChannel({ console });
  const [control, stdin, stdout, stderr] = CHANNEL_PORTS.map((name) => new FakePort(channel.port(name))) as [
    FakePort,
    FakePort,
    FakePort,
    FakePort,
  ];
  return { channel, control, stdin, stdout, stderr };
}

/** The strings of each message that went out on the control port. */
function messages(control: FakePort): string[][] {
  const bytes = Buffer.from(control.taken);
  const found: string[][] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    const text = bytes.toString('utf8', at + 4, at + 4 + length);
    expect(text.endsWith('\0')).toBe(true);
    found.push(text.slice(0, -1).split('\0'));
    at += 4 + length;
  }
  return found;
}

test('MachineChannel.send() frames options, an empty string and the arguments', () => {
  const { channel, control } = setUp();
  channel.send(
    { argv: ['printf', '', 'ü'], env: { A: 'b=c' }, cwd: '/tmp', rows: 2, columns: 3 },
    { timeMs: 1_700_000_000_250.5, entropy: new Uint8Array(32).fill(0xa5), hostname: 'h' },
  );
  expect(messages(control)).toEqual([
    [
      'time=1700000000.250500000',
      `entropy=${'a5'.repeat(32)}`,
      'hostname=h',
      'tty=0',
      'rows=2',
      'cols=3',
      'cwd=/tmp',
      'env=A=b=c',
      '',
      'printf',
      '',
      'ü',
    ],
  ]);
});

test('MachineChannel.send() says so when there is no input, and leaves the port alone', async () => {
  const { channel, control, stdin } = setUp();
  channel.stdin.end();
  await once(channel.stdin, 'finish');
  channel.send({ argv: ['true'] }, AS_IS);
  expect(messages(control)).toEqual([['stdin=0', 'tty=0', '', 'true']]);
  expect(stdin.closed).toBe(0);
});

test('MachineChannel.stdin ends after send() by closing the port, also with nothing written', async () => {
  const { channel, control, stdin } = setUp();
  channel.send({ argv: ['cat'] }, AS_IS);
  channel.stdin.end();
  await once(channel.stdin, 'finish');
  expect([messages(control)[0]?.[0], stdin.closed > 0]).toEqual(['tty=0', true]);
});

test('MachineChannel.stdin written and ended before send() is input all the same', async () => {
  const { channel, control, stdin } = setUp();
  channel.stdin.end('early');
  await once(channel.stdin, 'finish');
  channel.send({ argv: ['cat'] }, AS_IS);
  expect([messages(control)[0]?.[0], stdin.text, stdin.closed > 0]).toEqual(['tty=0', 'early', true]);
});

test('MachineChannel.stdin waits while the device takes no more, and loses and repeats nothing', async () => {
  const { channel, stdin } = setUp();
  channel.send({ argv: ['cat'] }, AS_IS);
  stdin.room = 3;
  const written: string[] = [];
  channel.stdin.write('first', () => written.push('first'));
  channel.stdin.write('second', () => written.push('second'));
  channel.stdin.end();
  await nextTurn();
  expect([stdin.text, written, stdin.closed]).toEqual(['fir', [], 0]);
  stdin.room = 4;
  stdin.host.onDrain();
  await nextTurn();
  expect([stdin.text, written, stdin.closed]).toEqual(['firstse', ['first'], 0]);
  stdin.room = 100;
  stdin.host.onDrain();
  await nextTurn();
  expect([stdin.text, written, stdin.closed > 0]).toEqual(['firstsecond', ['first', 'second'], true]);
});

test('MachineChannel.stdin is destroyed without an error when the command reads no more', async () => {
  const { channel, stdin } = setUp();
  stdin.host.onOpen(true);
  channel.send({ argv: ['true'] }, AS_IS);
  stdin.room = 0;
  channel.stdin.write('unread');
  stdin.host.onOpen(false);
  await once(channel.stdin, 'close');
  stdin.room = 100;
  stdin.host.onDrain(); // the callback of a write that is history
});

test('MachineChannel control messages queue behind a device that is full', () => {
  const { channel, control } = setUp();
  control.room = 10;
  channel.send({ argv: ['true'] }, AS_IS);
  channel.signal(2);
  channel.resize(30, 100);
  channel.refresh({ hostname: 'new', fresh: false });
  channel.close();
  expect(control.closed).toBe(0);
  control.room = 1000;
  control.host.onDrain();
  expect(messages(control)).toEqual([
    ['tty=0', '', 'true'],
    ['signal=2'],
    ['winsize=30x100'],
    ['hostname=new'],
  ]);
  expect(control.closed).toBe(1);
});

test('MachineChannel.stdout stops the guest when nobody reads, and lets it go on', async () => {
  const { channel, stdout } = setUp();
  const chunk = new Uint8Array(16 * 1024).fill(0x61);
  let accepted = 0;
  while (stdout.host.onOutput(chunk)) accepted++;
  expect(accepted).toBe(3);
  expect(stdout.resumed).toBe(0);
  let length = 0;
  channel.stdout.on('data', (part: Uint8Array) => {
    length += part.length;
  });
  await nextTurn();
  expect([length, stdout.resumed > 0]).toEqual([4 * 16 * 1024, true]);
});

test('MachineChannel.stdout keeps its own copy of what the device lends', async () => {
  const { channel, stdout } = setUp();
  const lent = Buffer.from('kept');
  stdout.host.onOutput(lent);
  lent.fill(0);
  expect(String((await once(channel.stdout, 'data'))[0])).toBe('kept');
});

test('MachineChannel.stdout that is destroyed closes its port, but not before the guest has opened it', async () => {
  const { channel, stdout, stderr } = setUp();
  channel.stdout.destroy();
  await once(channel.stdout, 'close');
  expect(stdout.closed).toBe(0);
  stdout.host.onOpen(true);
  expect(stdout.closed).toBe(1);
  stderr.host.onOpen(true);
  channel.stderr.destroy();
  await once(channel.stderr, 'close');
  expect(stderr.closed).toBe(1);
  expect(stderr.host.onOutput(Buffer.from('late'))).toBe(true);
});

test('MachineChannel.exited comes after all that the device still had', async () => {
  const { channel, stdout } = setUp();
  while (stdout.host.onOutput(new Uint8Array(64 * 1024)));
  let left = 5;
  stdout.onResume = () => {
    while (left > 0 && stdout.host.onOutput(Buffer.from('last'))) left--;
  };
  channel.onExitStatus(3);
  expect(await channel.exited).toBe(3);
  let text = '';
  for await (const part of channel.stdout) text += part;
  expect([left, text.endsWith('last'.repeat(5))]).toEqual([0, true]);
  expect(channel.stdin.destroyed).toBe(true);
});

test('MachineChannel ignores what a guest says after its exit status', async () => {
  const { channel, stdout } = setUp();
  channel.onExitStatus(1);
  channel.onExitStatus(2);
  expect(await channel.exited).toBe(1);
  expect(stdout.host.onOutput(Buffer.from('after the end'))).toBe(true);
  channel.onEnd();
  let text = '';
  for await (const part of channel.stdout) text += part;
  expect(text).toBe('');
  expect(() => channel.send({ argv: [] })).toThrow(/had one, or has ended/);
});

test('MachineChannel.exited is undefined when the machine ends first', async () => {
  const { channel, stdin } = setUp();
  channel.send({ argv: ['sleep'] }, AS_IS);
  stdin.room = 0;
  channel.stdin.write('x');
  channel.onEnd();
  expect(await channel.exited).toBeUndefined();
  for await (const part of channel.stderr) throw new Error(String(part));
});

test('MachineChannel refuses what the guest cannot take, and sends nothing of it', () => {
  const { channel, control } = setUp('none');
  const code = (act: () => void): unknown => {
    try {
      act();
    } catch (error) {
      return (error as { code?: unknown }).code;
    }
    return undefined;
  };
  for (const act of [
    () => channel.send({ argv: ['a\0b'] }),
    () => channel.send({ argv: ['x'.repeat(256 * 1024)] }),
    () => channel.send({ argv: new Array<string>(4097).fill('x') }),
    () => channel.send({ argv: [], tty: true }),
    () => channel.send({ argv: [] }, { timeMs: Number.NaN }),
    () => channel.send({ argv: [] }, { timeMs: -1 }),
    () => channel.send({ argv: [] }, { entropy: new Uint8Array(31) }),
    () => channel.send({ argv: [] }, { entropy: new Uint8Array(65) }),
    () => channel.refresh({ hostname: '' }),
    () => channel.refresh({ hostname: 'x'.repeat(65) }),
    () => channel.refresh({ hostname: 'a\0b' }),
    () => channel.signal(0),
    () => channel.signal(65),
    () => channel.signal(1.5),
    () => channel.resize(-1, 80),
    () => channel.resize(25, 65_536),
    () => channel.port('tsvm.other'),
  ]) {
    expect(code(act), act.toString()).toBe('TSVM_CONFIG');
  }
  expect(control.taken).toEqual([]);
  channel.send({ argv: ['fits'] }, AS_IS);
  expect(messages(control)).toHaveLength(1);
});

test('MachineChannel of a copy whose command runs tells it time and entropy when the machine starts, each copy its own', () => {
  const original = setUp();
  original.channel.send({ argv: ['job'] }, AS_IS);
  original.channel.onStart();
  expect(messages(original.control)).toHaveLength(1);
  const said = [1, 2].map(() => {
    const { channel, control } = setUp();
    channel.restore(original.channel.save());
    expect([channel.hasCommand, control.taken]).toEqual([true, []]);
    channel.onStart();
    expect(() => channel.send({ argv: ['another'] })).toThrow(/had one/);
    const [message, ...more] = messages(control);
    expect(more).toEqual([]);
    const [time, entropy] = message!;
    expect(Math.abs(Number(time!.replace('time=', '')) * 1000 - Date.now())).toBeLessThan(60_000);
    expect(entropy).toMatch(/^entropy=[0-9a-f]{64}$/);
    return entropy;
  });
  expect(said[0]).not.toBe(said[1]);
});

test.each([true, false])('MachineChannel of a copy knows whether its command has a terminal: %s', (tty) => {
  const original = setUp();
  expect(original.channel.hasTerminal).toBe(false);
  original.channel.send({ argv: ['job'], tty });
  const { channel } = setUp();
  channel.restore(original.channel.save());
  expect([original.channel.hasTerminal, channel.hasTerminal]).toEqual([tty, tty]);
});

test('MachineChannel of a copy that waits says nothing until it has a command, which brings time, entropy and its name', () => {
  const { channel, control } = setUp();
  channel.restore(setUp().channel.save(), { hostname: 'copy' });
  channel.onStart();
  expect(() => channel.refresh({ hostname: 'h' })).toThrow(/has no command/);
  // The guest would take either for its command.
  expect(() => channel.signal(15)).toThrow(/has no command/);
  channel.resize(25, 80);
  expect([channel.hasCommand, control.taken]).toEqual([false, []]);
  channel.send({ argv: ['job'] }, { timeMs: 5000, hostname: undefined });
  expect(messages(control)).toEqual([
    ['time=5.0', expect.stringMatching(/^entropy=[0-9a-f]{64}$/), 'hostname=copy', 'tty=0', '', 'job'],
  ]);
});

test.each([false, true])(
  'MachineChannel of a copy that is not to be fresh learns its name at most (has a command: %s)',
  (has) => {
    const original = setUp();
    if (has) original.channel.send({ argv: ['job'] }, AS_IS);
    const said = (facts: GuestFacts): string[][] => {
      const { channel, control } = setUp();
      channel.restore(original.channel.save(), facts);
      channel.onStart();
      if (!has) channel.send({ argv: ['job'] });
      return messages(control);
    };
    const command = has ? [] : ['tty=0', '', 'job'];
    expect(said({ fresh: false })).toEqual(has ? [] : [command]);
    expect(said({ fresh: false, hostname: 'copy' })).toEqual([['hostname=copy', ...command]]);
  },
);

test('MachineChannel.send() and refresh() bring new entropy and the time by themselves', () => {
  const { channel, control } = setUp();
  channel.send({ argv: ['job'] });
  channel.refresh();
  const facts = messages(control).map(([time, entropy]) => [time, entropy]);
  for (const [time, entropy] of facts) {
    expect(Math.abs(Number(time?.replace('time=', '')) * 1000 - Date.now())).toBeLessThan(60_000);
    expect(entropy).toMatch(/^entropy=[0-9a-f]{64}$/);
  }
  expect(facts[0]?.[1]).not.toBe(facts[1]?.[1]);
});

test('MachineChannel of a copy sends what its original had said and the device had not taken', () => {
  const original = setUp();
  original.control.room = 7;
  original.channel.send({ argv: ['job'] }, AS_IS);
  original.channel.signal(15);
  const { channel, control } = setUp();
  channel.restore(original.channel.save());
  const taken = Buffer.from([...original.control.taken, ...control.taken]);
  control.taken.splice(0, control.taken.length, ...taken);
  expect(messages(control)).toEqual([['tty=0', '', 'job'], ['signal=15']]);
});

test('MachineChannel of a copy is refused without a state, and where its init speaks another version of the protocol', () => {
  const state = setUp().channel.save();
  const refused = [
    [undefined, /it has no channel/],
    [{ ...state, protocol: PROTOCOL_VERSION + 1 }, /protocol has version 2, not 1/],
  ] as const;
  for (const [bad, message] of refused) {
    expect(() => setUp().channel.restore(bad)).toThrow(
      expect.objectContaining({ code: 'TSVM_STATE', message: expect.stringMatching(message) }),
    );
  }
});

test('MachineChannel.send() that is aborted kills the command, and one that was aborted before sends nothing', async () => {
  const { channel, control } = setUp();
  const controller = new AbortController();
  const gone = AbortSignal.abort(new Error('gone'));
  expect(() => channel.send({ argv: ['true'] }, AS_IS, { signal: gone })).toThrow('gone');
  expect(channel.hasCommand).toBe(false);
  channel.send({ argv: ['sleep', '60'] }, AS_IS, controller);
  controller.abort();
  expect(messages(control)).toEqual([['tty=0', '', 'sleep', '60'], ['signal=9']]);
});

test('MachineChannel.send() listens to its signal no longer than the command runs', async () => {
  const { channel, control } = setUp();
  const controller = new AbortController();
  channel.send({ argv: ['true'] }, AS_IS, controller);
  channel.onExitStatus(0);
  await channel.exited;
  await nextTurn();
  expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
  controller.abort();
  expect(messages(control)).toEqual([['tty=0', '', 'true']]);
});
