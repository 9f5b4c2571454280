/**
 * Calls on files, made one after the other on a thread of their own: a thread's turn for each call costs several times the call, and calls of
 * this thread would keep it from all else while a disk is busy.
 */
import type fs from 'node:fs';
import { Worker } from 'node:worker_threads';
import { addonPath, loadAddon, type NativeAddon } from '../../native/binding.js';

/** Calls that are sent together, unless their data is long. */
const BATCH_CALLS = 64;
const BATCH_BYTES = 1 << 20;
/** Batches that are on their way: one is made, one waits. */
const MAX_BATCHES = 2;

const ADDON_CALLS = ['makeFifo', 'setXattr', 'setTimes'] as const;
type AddonCall = (typeof ADDON_CALLS)[number];

/** Calls of Node.js, and of the addon what Node.js lacks. `null` for a descriptor is the one that was opened last. */
export type FileCall =
  | { [Name in PathCall]: [Name, ...Parameters<(typeof fs)[Name]>] }[PathCall]
  | { [Name in DescriptorCall]: [Name, null, ...RestOf<Parameters<(typeof fs)[Name]>>] }[DescriptorCall]
  | { [Name in AddonCall]: [Name, ...Parameters<NativeAddon[Name]>] }[AddonCall]
  | WriteCall
  | ['load', addon: string];
/** Writes all of some bytes at an offset of the open file. */
type WriteCall = ['write', null, bytes: Uint8Array, offset: number];
type PathCall =
  | 'openSync'
  | 'mkdirSync'
  | 'renameSync'
  | 'linkSync'
  | 'symlinkSync'
  | 'chownSync'
  | 'lchownSync'
  | 'chmodSync'
  | 'lutimesSync'
  | 'rmSync';
type DescriptorCall = 'closeSync' | 'fchmodSync' | 'fchownSync' | 'ftruncateSync';
type RestOf<Args extends unknown[]> = Args extends [unknown, ...infer Rest] ? Rest : never;

/** Program of the thread: a text, since a file would have to be found beside each bundle. */
const PROGRAM = `
const fs = require('node:fs');
const { parentPort } = require('node:worker_threads');
const calls = {
  load(path) {
    const { makeFifo, setTimes, setXattr } = require(path);
    Object.assign(calls, { makeFifo, setTimes, setAnyXattr: setXattr });
  },
  setXattr(...args) {
    try {
      calls.setAnyXattr(...args);
    } catch (error) {
      if (error.code !== 'EOPNOTSUPP' && error.code !== 'ENOTSUP') throw error; // the file system has no attributes
    }
  },
  write(fd, bytes, offset) {
    for (let at = 0; at < bytes.length; ) at += fs.writeSync(fd, bytes, at, bytes.length - at, offset + at);
  },
};
const state = { fd: -1, failed: false };
parentPort.on('message', (batch) => {
  if (state.failed) return; // what was sent meanwhile: its descriptor may be another file's by now
  try {
    for (const [name, ...args] of batch) {
      const result = (calls[name] ?? fs[name])(...(args[0] === null ? [state.fd, ...args.slice(1)] : args));
      if (name === 'openSync') state.fd = result;
    }
    parentPort.postMessage(undefined);
  } catch ({ code, errno, syscall, message }) {
    state.failed = true;
    parentPort.postMessage({ code, errno, syscall, message });
  }
});
`;

export class FileThread implements AsyncDisposable {
  #worker: Worker | undefined;
  #batch: FileCall[] = [];
  #batchBytes = 0;
  #hasAddon = false;
  /** Batches that were sent and not answered. */
  #sent = 0;
  #error: Error | undefined;
  #wake: () => void = () => {};

  /** Makes calls after those before, and returns when there is room for more. @throws an errno of any call so far */
  async call(...calls: readonly FileCall[]): Promise<void> {
    for (const call of calls) {
      if (!this.#hasAddon && ADDON_CALLS.some((name) => name === call[0])) {
        loadAddon(); // its errors say what to do
        this.#batch.push(['load', addonPath()]);
        this.#hasAddon = true;
      }
      if (call[0] === 'write') this.#batchBytes += call[2].length;
      this.#batch.push(call);
    }
    if (this.#batch.length >= BATCH_CALLS || this.#batchBytes >= BATCH_BYTES) await this.#send(MAX_BATCHES);
  }

  /** Waits until all calls are made. @throws an errno of any */
  async done(): Promise<void> {
    await this.#send(1);
    await this.#until(1);
  }

  /** Sends what is held, when fewer than `most` batches are on their way. */
  async #send(most: number): Promise<void> {
    await this.#until(most);
    if (this.#batch.length === 0) return;
    // Views of one buffer would each carry all of it.
    const batch = this.#batch.map((call) => (call[0] === 'write' ? ownBytes(call) : call));
    const data = batch.flatMap((call) => (call[0] === 'write' ? [call[2].buffer as ArrayBuffer] : []));
    this.#batch = [];
    this.#batchBytes = 0;
    this.#sent++;
    this.#worker ??= this.#start();
    this.#worker.postMessage(batch, data);
  }

  async #until(most: number): Promise<void> {
    while (this.#sent >= most && this.#error === undefined) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#error !== undefined) throw this.#error;
  }

  #start(): Worker {
    const worker = new Worker(PROGRAM, { eval: true });
    worker.on('message', (failed: object | undefined) => {
      this.#sent--;
      if (failed !== undefined) this.#error ??= Object.assign(new Error(), failed);
      this.#wake();
    });
    worker.on('error', (error) => {
      this.#error ??= error;
      this.#wake();
    });
    return worker;
  }

  /** Ends the thread; what was not made by then may never be. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker?.terminate();
  }
}

function ownBytes([name, fd, bytes, offset]: WriteCall): WriteCall {
  return [name, fd, new Uint8Array(bytes), offset];
}
