/** Programs that keep credentials: `docker-credential-NAME`, as docker and podman call them. */
import { spawn } from 'node:child_process';
import { z } from 'zod';
import type { TsvmError } from '../../errors.js';
import { programPath } from '../../host/process/program-path.js';
import { imageError } from '../image-error.js';

/** Longest answer. */
const MAX_OUTPUT_BYTES = 64 << 10;
/** Time for a person to open a keychain. */
const TIMEOUT_MS = 60_000;
const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;
/** Answers of helpers that know nothing of a host. */
const UNKNOWN = /credentials not found|no credentials server URL/i;

const schema = z.object({ Username: z.string(), Secret: z.string() });

export interface HelperAnswer {
  readonly username: string;
  readonly secret: string;
}

/**
 * Asks a helper; undefined if it knows nothing of the host.
 *
 * @param name - as in a configuration: `secretservice`
 * @throws TsvmError `TSVM_IMAGE` that names the program, without anything that it said.
 */
export async function askHelper(
  name: string,
  server: string,
  timeoutMs = TIMEOUT_MS,
): Promise<HelperAnswer | undefined> {
  const program = `docker-credential-${name}`;
  const failed = (why: string, hint: string): TsvmError =>
    imageError(`the credentials for ${server}: ${program} ${why}`, hint);
  if (!NAME.test(name)) throw failed('is not the name of a helper', 'mend credsStore or credHelpers');
  const path = programPath(program);
  if (path === undefined)
    throw failed('is not installed', 'install it, or take it out of credsStore or credHelpers');
  const { status, output } = await run(path, server, timeoutMs);
  const hint = `try it: echo ${server} | ${program} get`;
  if (status === 'timeout') throw failed(`did not answer within ${timeoutMs / 1000} s`, hint);
  if (status === 'too long') throw failed(`says more than ${MAX_OUTPUT_BYTES} bytes`, hint);
  if (status !== 0) {
    if (UNKNOWN.test(output)) return undefined;
    throw failed('failed', hint);
  }
  const answer = schema.safeParse(parsed(output));
  if (!answer.success) throw failed('does not answer as a helper does', hint);
  return { username: answer.data.Username, secret: answer.data.Secret };
}

type Result = { readonly status: number | null | 'timeout' | 'too long'; readonly output: string };

function run(path: string, input: string, timeoutMs: number): Promise<Result> {
  return new Promise((resolve, reject) => {
    const child = spawn(path, ['get'], { stdio: ['pipe', 'pipe', 'ignore'] });
    const pieces: Buffer[] = [];
    let bytes = 0;
    const end = (status: Result['status']): void => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      // A child of it may have the pipe still.
      child.stdout.destroy();
      resolve({ status, output: Buffer.concat(pieces).toString('utf8') });
    };
    const timer = setTimeout(end, timeoutMs, 'timeout');
    child.stdout.on('data', (piece: Buffer) => {
      bytes += piece.length;
      if (bytes > MAX_OUTPUT_BYTES) end('too long');
      else pieces.push(piece);
    });
    child.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.once('close', end);
    child.stdin.on('error', () => {}); // it may end without reading
    child.stdin.end(`${input}\n`);
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
