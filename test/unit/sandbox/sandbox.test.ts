import { connect, createServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { CommandError } from '../../../src/sandbox/exec.js';
import { fakeSandbox } from '../../support/fake-agent.js';

describe('Sandbox.exec()', () => {
  test('gives status and output of a shell string and of words', async () => {
    const { box, commands } = fakeSandbox();
    expect(await box.exec('echo out; echo err >&2; exit 3')).toEqual({
      exitCode: 3,
      stdout: 'out\n',
      stderr: 'err\n',
      outOfMemory: false,
      truncated: false,
    });
    expect((await box.exec(['printf', '%s', 'a b'])).stdout).toBe('a b');
    expect(commands[0]?.argv).toEqual(['/bin/sh', '-c', 'echo out; echo err >&2; exit 3']);
  });

  test('tells the signal that ended a command', async () => {
    const { box } = fakeSandbox();
    expect(await box.exec('kill -9 $$')).toMatchObject({ exitCode: 137, signal: 9 });
  });

  test('gives a command its input, whatever it is', async () => {
    const { box } = fakeSandbox();
    async function* pieces(): AsyncGenerator<string> {
      yield 'one';
      yield 'two';
    }
    for (const stdin of ['onetwo', Buffer.from('onetwo'), pieces()])
      expect((await box.exec(['cat'], { stdin })).stdout).toBe('onetwo');
    // Without any, it is at its end.
    expect((await box.exec(['cat'])).stdout).toBe('');
  });

  test('does not wait for the rest of an input that nobody reads', async () => {
    const { box } = fakeSandbox();
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) yield new Uint8Array(65_536);
    }
    expect((await box.exec(['true'], { stdin: endless() })).exitCode).toBe(0);
  });

  test('ends a command whose input breaks off, and rejects with that error', async () => {
    const { box } = fakeSandbox();
    async function* broken(): AsyncGenerator<string> {
      yield 'one';
      throw new Error('the disk is gone');
    }
    await expect(box.exec(['cat'], { stdin: broken() })).rejects.toThrow('the disk is gone');
  });

  test('keeps the first of an output that is longer than its bound, and says so', async () => {
    const { box } = fakeSandbox();
    const result = await box.exec('head -c 100000 /dev/zero | tr "\\0" x', { maxOutputBytes: 1000 });
    expect(result).toMatchObject({ exitCode: 0, truncated: true });
    expect(result.stdout).toBe('x'.repeat(1000));
    await expect(box.exec('true', { maxOutputBytes: -1 })).rejects.toMatchObject({ code: 'TSVM_CONFIG' });
  });

  test('throws an error with the result if it is asked to', async () => {
    const { box } = fakeSandbox();
    const error = await box.exec('echo no >&2; exit 4', { check: true }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(CommandError);
    expect(error).toMatchObject({ code: 'TSVM_EXIT_STATUS', result: { exitCode: 4, stderr: 'no\n' } });
    expect((error as Error).message).toBe('echo no >&2; exit 4: exit status 4');
    expect((await box.exec('true', { check: true })).exitCode).toBe(0);
  });

  test('ends a command whose time is up, and one that is aborted', async () => {
    const { box } = fakeSandbox();
    await expect(box.exec('sleep 100', { timeoutMs: 50 })).rejects.toMatchObject({
      code: 'TSVM_TIMEOUT',
      message: 'sleep 100: not done after 50 ms',
    });
    const reason = new Error('enough');
    const controller = new AbortController();
    const running = box.exec('sleep 100', { signal: controller.signal });
    controller.abort(reason);
    await expect(running).rejects.toBe(reason);
    await expect(box.exec('true', { signal: controller.signal })).rejects.toBe(reason);
    for (const timeoutMs of [0, -1, Number.NaN, 2 ** 31])
      await expect(box.exec('true', { timeoutMs })).rejects.toMatchObject({ code: 'TSVM_CONFIG' });
  });

  test('puts the environment together', async () => {
    const { box, commands } = fakeSandbox();
    const { stdout } = await box.exec('echo $FROM $MORE $HOME; pwd', { env: { MORE: 'mine' }, cwd: '/tmp' });
    expect(stdout).toBe('image mine /root\n/tmp\n');
    expect(commands[0]).toMatchObject({ user: { uid: 0, gid: 0 } });
  });

  test('rejects if the program is not there', async () => {
    const { box } = fakeSandbox();
    await expect(box.exec(['/no/such'])).rejects.toMatchObject({ code: 'TSVM_SANDBOX' });
  });
});

describe('Sandbox.spawn()', () => {
  test('gives the lines of a command, and its end', async () => {
    const { box } = fakeSandbox();
    const job = box.spawn('printf "one\\ntwo\\r\\nthree"');
    const lines: string[] = [];
    for await (const line of job.lines()) lines.push(line);
    expect(lines).toEqual(['one', 'two', 'three']);
    expect(await job.wait()).toEqual({ exitCode: 0, outOfMemory: false });
  });

  test('pipes input and output before the command has started', async () => {
    const { box } = fakeSandbox();
    const job = box.spawn(['cat'], { stdin: 'pipe' });
    job.stdin.write('one');
    job.stdin.end('two');
    expect(await text(job.stdout)).toBe('onetwo');
    expect((await job.started).pid).toBeGreaterThan(0);
  });

  test('kills a command by the name or number of a signal', async () => {
    const { box } = fakeSandbox();
    for (const [signal, number] of [
      [undefined, 15],
      ['SIGINT', 2],
      [9, 9],
    ] as const) {
      const job = box.spawn(['sleep', '100']);
      await job.kill(signal);
      expect((await job.wait()).signal).toBe(number);
    }
    await using job = box.spawn(['sleep', '100']);
    await expect(job.kill('SIGNONE' as NodeJS.Signals)).rejects.toMatchObject({ code: 'TSVM_CONFIG' });
  });

  test('ends its command at an abort, at the end of its time, and when it is disposed of', async () => {
    const { box } = fakeSandbox();
    expect((await box.spawn(['sleep', '100'], { timeoutMs: 50 }).wait()).signal).toBe(9);
    const controller = new AbortController();
    const job = box.spawn(['sleep', '100'], { signal: controller.signal });
    await job.started;
    controller.abort();
    expect((await job.wait()).signal).toBe(9);
    const other = box.spawn(['sleep', '100']);
    await other[Symbol.asyncDispose]();
    expect((await other.wait()).signal).toBe(9);
  });

  test('waits no longer than it is told, and the command goes on', async () => {
    const { box } = fakeSandbox();
    await using job = box.spawn(['cat'], { stdin: 'pipe' });
    await expect(job.wait({ timeoutMs: 20 })).rejects.toMatchObject({ code: 'TSVM_TIMEOUT' });
    job.stdin.end();
    expect((await job.wait()).exitCode).toBe(0);
  });

  test('fails everywhere with one error if the program is not there', async () => {
    const { box } = fakeSandbox();
    const job = box.spawn(['/no/such']);
    const expected = { code: 'TSVM_SANDBOX' };
    await expect(job.wait()).rejects.toMatchObject(expected);
    await expect(job.started).rejects.toMatchObject(expected);
    await expect(text(job.stdout)).rejects.toMatchObject(expected);
    await expect(job.kill()).rejects.toMatchObject(expected);
    await job[Symbol.asyncDispose]();
  });
});

describe('ports of a sandbox', () => {
  test('are waited for, and reached by the address that they are forwarded at', async () => {
    await using server = await listening((socket) => socket.end('hello'));
    const { box } = fakeSandbox();
    expect(() => box.url(server.port)).toThrow(`port ${server.port} of box is not forwarded`);
    await box.waitForPort(server.port);
    const url = new URL(box.url(server.port));
    expect(url.hostname).toBe('127.0.0.1');
    expect(url.port).not.toBe(String(server.port));
    expect(await textFrom(Number(url.port))).toBe('hello');
    await box.waitForPort(server.port);
    expect(box.url(server.port)).toBe(url.href.replace(/\/$/, ''));
    await box.kill();
    await expect(textFrom(Number(url.port))).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  test('wait no longer than they are told', async () => {
    const { box } = fakeSandbox();
    await using server = await listening(() => {});
    const { port } = server;
    await server[Symbol.asyncDispose]();
    await expect(box.waitForPort(port, { timeoutMs: 30 })).rejects.toMatchObject({ code: 'TSVM_TIMEOUT' });
    await expect(box.waitForPort(0)).rejects.toMatchObject({ code: 'TSVM_CONFIG' });
  });

  test('go both ways, each to its own end', async () => {
    await using server = await listening(answer);
    const { box } = fakeSandbox();
    await using forward = await box.forward({ port: server.port });
    expect((await textFrom(forward.hostPort, 'x'.repeat(300_000))).length).toBe(300_004);
    await expect(box.forward({ port: 1, hostPort: forward.hostPort })).rejects.toMatchObject({
      code: 'TSVM_NET',
    });
  });

  test('reset a connection to what nobody listens at', async () => {
    const { box } = fakeSandbox();
    const server = await listening(() => {});
    await server[Symbol.asyncDispose]();
    await using forward = await box.forward({ port: server.port });
    await expect(textFrom(forward.hostPort)).rejects.toMatchObject({ code: 'ECONNRESET' });
  });
});

async function listening(
  serve: (socket: Socket) => void,
): Promise<{ readonly port: number } & AsyncDisposable> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    serve(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as { port: number }).port,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

async function textFrom(port: number, said?: string): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  if (said !== undefined) socket.end(said);
  const whole = await text(socket);
  socket.destroy();
  return whole;
}

/** Says what was heard when all of it is. (A stream that is iterated is destroyed at its end, both ways.) */
function answer(socket: Socket): void {
  const pieces: Buffer[] = [];
  socket.on('data', (piece) => pieces.push(piece));
  socket.once('end', () => socket.end(`got ${Buffer.concat(pieces)}`));
}
