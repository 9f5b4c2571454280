/** The way to a machine's agent, with an init that is played. */
import { once } from 'node:events';
import { type Duplex, PassThrough } from 'node:stream';
import { expect, test, vi } from 'vitest';
import { TsvmError } from '../../../src/errors.js';
import { AgentDoor } from '../../../src/guest/agent-door.js';
import { AGENT_PORT, MARK } from '../../../src/guest/protocol.js';

function played() {
  const ask = vi.fn(() => door.onMark(MARK.AGENT));
  const connect = vi.fn(async (): Promise<Duplex> => {
    const stream = new PassThrough();
    setImmediate(() => stream.write('greeting'));
    return stream;
  });
  const door = new AgentDoor({ ask, connect });
  return { ask, connect, door };
}

const refused = () => new TsvmError('TSVM_VSOCK', 'refused');

test('who dials waits for init to say that it has the agent, and it is asked for once', async () => {
  const { ask, connect, door } = played();
  const calls = [door.dial(), door.dial()];
  expect(ask).not.toHaveBeenCalled();
  door.onMark(MARK.AGENT);
  door.onMark(MARK.READY);
  const streams = await Promise.all(calls);
  expect(new Set(streams).size).toBe(2);
  expect(ask).toHaveBeenCalledTimes(1);
  expect(connect).toHaveBeenCalledWith(AGENT_PORT, expect.anything());
});

test('an init that says nothing of it before it is ready has none', async () => {
  const { door } = played();
  const call = expect(door.dial()).rejects.toThrow('the guest of this machine has no agent');
  door.onMark(MARK.READY);
  await call;
});

test('one that has ended is asked for anew, once', async () => {
  const { ask, connect, door } = played();
  door.restore(true);
  await door.dial();
  connect.mockRejectedValueOnce(refused());
  await door.dial();
  expect(ask).toHaveBeenCalledTimes(2);
  connect.mockRejectedValue(refused());
  await expect(door.dial()).rejects.toThrow('the agent of this machine cannot be reached');
  expect(ask).toHaveBeenCalledTimes(4);
});

test('one that ends before it greets is one that has ended; what it says is left for who dials', async () => {
  const { ask, connect, door } = played();
  door.restore(true);
  await door.dial();
  connect.mockImplementationOnce(async () => {
    const stream = new PassThrough();
    stream.end();
    return stream;
  });
  const stream = await door.dial();
  expect(ask).toHaveBeenCalledTimes(2);
  const [bytes] = await once(stream, 'data');
  expect(String(bytes)).toBe('greeting');
  connect.mockImplementationOnce(async () => new PassThrough()); // hangs
  await expect(door.dial({ signal: AbortSignal.timeout(5) })).rejects.toThrow(/timeout/);
});

test('an end and an abort are told to those who wait', async () => {
  const { door } = played();
  await expect(door.dial({ signal: AbortSignal.timeout(5) })).rejects.toThrow(/timeout/);
  const call = expect(door.dial()).rejects.toThrow('the machine has ended');
  door.onEnd();
  await call;
});

test('a guest that never says anything is given up after a minute', async () => {
  vi.useFakeTimers();
  const { door } = played();
  const call = expect(door.dial()).rejects.toThrow('does not answer for 60 s');
  await vi.advanceTimersByTimeAsync(60_000);
  await call;
  vi.useRealTimers();
});
