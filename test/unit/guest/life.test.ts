/** A command's life, in a machine that is played. */
import { expect, test } from 'vitest';
import type { GuestChannel } from '../../../src/guest/channel.js';
import { beginCommand } from '../../../src/guest/life.js';

function play(status: number | undefined) {
  const said: string[] = [];
  const channel = {
    exited: Promise.resolve(status),
    send: ({ argv }: { argv: readonly string[] }) => void said.push(`send ${argv}`),
  } as unknown as GuestChannel;
  const machine = {
    channel,
    kill: async () => void said.push('kill'),
    stop: async () => void said.push('stop'),
    wait: async () => 'the end',
  };
  const connect = () => {
    said.push('connect');
    return async () => void said.push('drained');
  };
  return { said, machine, connect };
}

test('beginCommand() connects the streams, sends the command, drains what it said, and kills the machine', async () => {
  const { said, machine, connect } = play(3);
  const life = beginCommand(machine, { command: { argv: ['job'] }, connect });
  expect(said).toEqual(['connect', 'send job']);
  expect(await life.end()).toEqual({ status: 3, end: 'the end' });
  expect(said).toEqual(['connect', 'send job', 'drained', 'kill']);
});

test('beginCommand() of a machine that has its command sends none, and drains what one that ended first had said', async () => {
  const { said, machine, connect } = play(undefined);
  expect(await beginCommand(machine, { connect }).end()).toEqual({ status: undefined, end: 'the end' });
  expect(said).toEqual(['connect', 'drained']);
});

test('beginCommand() has a guest whose disk is kept write it back, and then end', async () => {
  const { said, machine, connect } = play(0);
  expect(await beginCommand(machine, { connect, writesBack: true }).end()).toEqual({
    status: 0,
    end: 'the end',
  });
  expect(said).toEqual(['connect', 'drained', 'stop']);
});

test('beginCommand() refuses a machine without a channel', () => {
  const { machine, connect } = play(0);
  expect(() => beginCommand({ ...machine, channel: undefined }, { connect })).toThrow(/has no channel/);
});
