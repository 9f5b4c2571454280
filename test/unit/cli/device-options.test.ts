import { Command } from 'commander';
import { expect, test } from 'vitest';
import { addDeviceOptions, deviceRequests } from '../../../src/cli/options/device-options.js';

const requested = (...args: string[]): string[] => {
  const command = addDeviceOptions(new Command()).parse(args, { from: 'user' });
  return deviceRequests(command.opts()).map(({ kind }) => kind);
};

test('without options there is no device, and so no network card', () => {
  expect(requested()).toEqual([]);
  expect(requested('--rng', '--disk', 'data.img')).not.toContain('net');
});

test('--net asks for a card each', () => {
  expect(requested('--net', 'user', '--net', 'tap,name=tap0')).toEqual(['net', 'net']);
});
