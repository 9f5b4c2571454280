/**
 * The bundled command as bytecode, made when it is built: to compile it takes longer than to restore a machine.
 *
 * V8 refuses bytecode of another version of itself, or made with other flags; the bundle is compiled as ever then. But of the
 * source it compares no more than the length, and damaged bytecode makes it crash. So checksums of both stand before it.
 */
const { readFileSync, writeFileSync } = require('node:fs') as typeof import('node:fs');
const { createRequire } = require('node:module') as typeof import('node:module');
const { dirname, join } = require('node:path') as typeof import('node:path');
const { Script } = require('node:vm') as typeof import('node:vm');
const { crc32 } = require('node:zlib') as typeof import('node:zlib');

/** CRC-32 of the source, and of the bytecode. A multiple of eight, or V8 copies what follows. */
const HEADER_BYTES = 8;

const cachePath = (bundle: string): string => `${bundle}.cache`;

/** The CommonJS wrapper (Node's documentation of modules, "The module wrapper"). */
function compile(bundle: string, source: string, cachedData?: Buffer): InstanceType<typeof Script> {
  const code = `(function (exports, require, module, __filename, __dirname) {${source}\n})`;
  return new Script(code, { filename: bundle, cachedData });
}

/** One typographic quote makes V8 keep all of a source in twice the space, and UTF-8 takes longer to read than bytes. */
function toAscii(source: string): string {
  // There it would be another text. None of ours has such.
  if (/\\[\u0080-\uffff]|String\.raw/.test(source))
    throw new Error('an escape or a raw string in the bundle');
  return source.replace(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function readCache(bundle: string, source: Buffer): Buffer | undefined {
  try {
    const cache = readFileSync(cachePath(bundle));
    const bytecode = cache.subarray(HEADER_BYTES);
    const fits = cache.readUInt32LE(0) === crc32(source) && cache.readUInt32LE(4) === crc32(bytecode);
    return fits ? bytecode : undefined;
  } catch {
    return undefined; // it only costs time
  }
}

/** Runs a CommonJS bundle, which has no `import()`, and the other parts of it (`./part.cjs`) when it asks for them. */
function load(bundle: string, loaded = new Map<string, { exports: unknown }>()): unknown {
  const present = loaded.get(bundle);
  if (present !== undefined) return present.exports;
  const source = readFileSync(bundle);
  const module = { exports: {} };
  loaded.set(bundle, module); // before it runs: parts may ask for each other
  const folder = dirname(bundle);
  const nodeRequire = createRequire(bundle);
  const requirePart = (id: string): unknown =>
    id.startsWith('./') ? load(join(folder, id), loaded) : nodeRequire(id);
  const cache = readCache(bundle, source);
  const text = source.toString(cache === undefined ? 'utf8' : 'latin1');
  const run = compile(bundle, text, cache).runInThisContext();
  run(module.exports, requirePart, module, bundle, folder);
  return module.exports;
}

/** Compiles every function of a bundle in ASCII, also those that V8 would leave until they are called. */
function save(bundle: string): void {
  const { setFlagsFromString } = require('node:v8') as typeof import('node:v8'); // here, since it takes 3 ms
  const source = readFileSync(bundle);
  setFlagsFromString('--no-lazy');
  const script = compile(bundle, source.toString('latin1'));
  setFlagsFromString('--lazy'); // flags are part of what V8 compares
  const bytecode = script.createCachedData();
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(crc32(source), 0);
  header.writeUInt32LE(crc32(bytecode), 4);
  writeFileSync(cachePath(bundle), Buffer.concat([header, bytecode]));
}

module.exports = { load, save, toAscii };
