/** Ends that a signal or a time limit asks for. Signals are emitted, not sent: one process has all tests of a file. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import { StopSignals } from '../../../src/cli/session/stop-signals.js';

afterEach(() => vi.useRealTimers());

describe('StopSignals.ofMachine()', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 143],
  ] as const)('kills what is watched at %s, for status %d', (signal, status) => {
    using stopSignals = StopSignals.ofMachine();
    const kill = vi.fn();
    stopSignals.watch({ kill });
    expect([stopSignals.exitCode, stopSignals.signal.aborted]).toEqual([undefined, false]);
    process.emit(signal);
    expect([stopSignals.exitCode, stopSignals.signal.aborted]).toEqual([status, true]);
    expect(kill).toHaveBeenCalledOnce();
  });

  test('keeps the status of the first signal', () => {
    using stopSignals = StopSignals.ofMachine();
    process.emit('SIGTERM');
    process.emit('SIGINT');
    expect(stopSignals.exitCode).toBe(143);
  });

  test('kills at once what is watched after the signal', () => {
    using stopSignals = StopSignals.ofMachine();
    process.emit('SIGINT');
    const kill = vi.fn();
    stopSignals.watch({ kill });
    expect(kill).toHaveBeenCalledOnce();
  });

  test('kills nothing that is watched no more', () => {
    using stopSignals = StopSignals.ofMachine();
    const kill = vi.fn();
    stopSignals.watch({ kill });
    stopSignals.watch(undefined);
    process.emit('SIGINT');
    expect(kill).not.toHaveBeenCalled();
  });

  test('kills when the time is up', () => {
    vi.useFakeTimers();
    using stopSignals = StopSignals.ofMachine(1000);
    const kill = vi.fn();
    stopSignals.watch({ kill });
    vi.advanceTimersByTime(999);
    expect(stopSignals.timedOut).toBe(false);
    vi.advanceTimersByTime(1);
    expect([stopSignals.timedOut, stopSignals.exitCode]).toEqual([true, 124]);
    expect(kill).toHaveBeenCalledOnce();
  });

  test('lets a machine that was made too late start', () => {
    vi.useFakeTimers();
    using stopSignals = StopSignals.ofMachine(1000);
    vi.advanceTimersByTime(5000);
    expect(stopSignals.timedOut).toBe(false);
    stopSignals.watch({ kill: vi.fn() });
    expect(stopSignals.timedOut).toBe(false);
    vi.advanceTimersByTime(1);
    expect(stopSignals.timedOut).toBe(true);
  });

  test('listens no more when it is disposed, and its time is not up', () => {
    vi.useFakeTimers();
    const before = process.listenerCount('SIGTERM');
    const stopSignals = StopSignals.ofMachine(1000);
    expect(process.listenerCount('SIGTERM')).toBe(before + 1);
    stopSignals[Symbol.dispose]();
    expect(process.listenerCount('SIGTERM')).toBe(before);
    vi.advanceTimersByTime(2000);
    expect(stopSignals.exitCode).toBeUndefined();
  });
});

describe('StopSignals.ofCommand()', () => {
  test('stops at a signal while there is no command', () => {
    using stopSignals = StopSignals.ofCommand();
    process.emit('SIGHUP');
    expect(stopSignals.exitCode).toBe(129);
  });

  test('stops when its time is up, while there is no command too', () => {
    vi.useFakeTimers();
    using stopSignals = StopSignals.ofCommand(1000);
    vi.advanceTimersByTime(1000);
    expect([stopSignals.timedOut, stopSignals.signal.aborted]).toEqual([true, true]);
  });

  test('gives signals to the command, and stops at the second that insists', () => {
    using stopSignals = StopSignals.ofCommand();
    const forward = vi.fn();
    stopSignals.forwardTo(forward);
    for (const signal of ['SIGUSR1', 'SIGHUP', 'SIGINT', 'SIGQUIT'] as const) process.emit(signal);
    expect(forward.mock.calls).toEqual([[10], [1], [2], [3]]);
    expect(stopSignals.exitCode).toBeUndefined();
    process.emit('SIGTERM');
    expect([forward.mock.calls.length, stopSignals.exitCode]).toEqual([4, 143]);
  });
});

describe('StopSignals.ofSavedMachine()', () => {
  test('gives its command, once it is known, the signals that came before; one that ends a machine does not wait', () => {
    using stopSignals = StopSignals.ofSavedMachine();
    process.emit('SIGUSR1');
    stopSignals.switchToCommand();
    process.emit('SIGQUIT');
    const forward = vi.fn();
    stopSignals.forwardTo(forward);
    process.emit('SIGUSR2');
    expect(forward.mock.calls).toEqual([[10], [3], [12]]);
    expect(stopSignals.exitCode).toBeUndefined();
    using other = StopSignals.ofSavedMachine();
    process.emit('SIGTERM');
    expect(other.exitCode).toBe(143);
  });

  test('leaves them to this process if there is no command', async () => {
    using stopSignals = StopSignals.ofSavedMachine();
    process.emit('SIGUSR1');
    const saved = new Promise<void>((resolve) => process.once('SIGUSR1', () => resolve()));
    stopSignals.switchToMachine();
    await saved;
    expect(stopSignals.exitCode).toBeUndefined();
  });
});

describe('StopSignals.commandEnded()', () => {
  test('lets the first signal that ends a machine end what is left, and no other', () => {
    using stopSignals = StopSignals.ofCommand();
    const forward = vi.fn();
    stopSignals.forwardTo(forward);
    stopSignals.commandEnded();
    for (const signal of ['SIGUSR1', 'SIGQUIT'] as const) process.emit(signal);
    expect(stopSignals.exitCode).toBeUndefined();
    process.emit('SIGINT');
    expect([stopSignals.exitCode, stopSignals.signal.aborted]).toEqual([130, true]);
    expect(forward).not.toHaveBeenCalled();
  });
});

describe('StopSignals.switchToCommand()', () => {
  test('gives signals to the command from then on, as from the start', () => {
    const before = process.listenerCount('SIGINT');
    using stopSignals = StopSignals.ofMachine();
    stopSignals.switchToCommand();
    expect(process.listenerCount('SIGINT')).toBe(before + 1);
    const forward = vi.fn();
    stopSignals.forwardTo(forward);
    for (const signal of ['SIGUSR1', 'SIGINT'] as const) process.emit(signal);
    expect(forward.mock.calls).toEqual([[10], [2]]);
    expect(stopSignals.exitCode).toBeUndefined();
    process.emit('SIGTERM');
    expect([forward.mock.calls.length, stopSignals.exitCode]).toEqual([2, 143]);
  });

  test('keeps the time limit', () => {
    vi.useFakeTimers();
    using stopSignals = StopSignals.ofMachine(1000);
    vi.advanceTimersByTime(600);
    stopSignals.switchToCommand();
    vi.advanceTimersByTime(399);
    expect(stopSignals.timedOut).toBe(false);
    vi.advanceTimersByTime(1);
    expect(stopSignals.timedOut).toBe(true);
  });

  test('listens no more when it is disposed', () => {
    const before = ['SIGINT', 'SIGUSR2'].map((signal) => process.listenerCount(signal));
    const stopSignals = StopSignals.ofMachine();
    stopSignals.switchToCommand();
    stopSignals[Symbol.dispose]();
    expect(['SIGINT', 'SIGUSR2'].map((signal) => process.listenerCount(signal))).toEqual(before);
  });
});
