#!/usr/bin/env -S node --
const { existsSync, lstatSync, mkdirSync } = require('node:fs') as typeof import('node:fs');
// Node 22.1 has it, and the types of Node 20 do not.
const { enableCompileCache } = require('node:module') as { enableCompileCache?(folder: string): void };
const { homedir } = require('node:os') as typeof import('node:os');
const { dirname, join } = require('node:path') as typeof import('node:path');

/**
 * Folder of the bytecode that Node keeps of this command, if it is this user's alone: bytecode that somebody else put there would be
 * executed, and what Node would take without a folder is a name in /tmp.
 */
function bytecodeFolder(): string | undefined {
  try {
    if (lstatSync(homedir()).uid !== process.geteuid?.()) return undefined; // sudo, which left its user's home
    const folder = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'tsvm/bytecode');
    makeFolders(folder);
    const { uid, mode } = lstatSync(folder);
    return uid === process.geteuid?.() && (mode & 0o170022) === 0o040000 ? folder : undefined;
  } catch {
    return undefined; // it only costs time
  }
}

/** Makes a folder with those above it. Node's own way (`recursive`) never ends in /proc. */
function makeFolders(path: string): void {
  if (existsSync(path)) return;
  makeFolders(dirname(path));
  mkdirSync(path, { mode: 0o700 });
}

const main = join(__dirname, 'main.cjs');
if (enableCompileCache === undefined) {
  const { load } = require('./code-cache.cjs') as { load(bundle: string): void };
  load(main);
} else {
  const folder = bytecodeFolder();
  if (folder !== undefined) enableCompileCache(folder);
  require(main);
}
