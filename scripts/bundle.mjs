/**
 * Bundles what tsc made, with the npm packages that it needs.
 *
 *   node scripts/bundle.mjs                    to dist/, the command with its bytecode for Node 20
 *   node scripts/bundle.mjs --package FOLDER   command and library as they are published, to FOLDER/dist/, and THIRD-PARTY-NOTICES
 */
import { chmodSync, copyFileSync, cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { rolldown } from 'rolldown';
import { bundledBlessed, TERMINFO } from './bundled-blessed.mjs';
import { thirdPartyNotices } from './third-party-notices.mjs';

const repository = join(import.meta.dirname, '..');
const dist = join(repository, 'dist');
const { save, toAscii } = createRequire(import.meta.url)(join(dist, 'bin/code-cache.cjs'));
const main = join(dist, 'cli/main.js');
const index = join(dist, 'index.js');
/** Programs that tsc made, which load the bundle. */
const LOADERS = ['tsvm.cjs', 'code-cache.cjs'];

const IMPORT = /(^|[^.\w])import\(["'`]/;
const COMMENT = /^\s*(\*|\/\/)/;

/**
 * @param options where to, in which format, and whether short: without white space and dead code, and with short names of variables. Names of functions and
 * classes stay, for the sake of reports of bugs.
 * @returns files of npm packages that are in the bundle
 */
async function bundle(input, { dir, format, small }) {
  const modules = new Set();
  const build = await rolldown({
    input,
    platform: 'node',
    plugins: [bundledBlessed],
    logLevel: 'warn',
  });
  const names = `[name].${format === 'cjs' ? 'cjs' : 'js'}`;
  const { output } = await build.write({
    dir,
    format,
    entryFileNames: names,
    chunkFileNames: names,
    minify: small
      ? {
          mangle: { keepNames: true },
          compress: { target: 'node20', keepNames: { function: true, class: true } },
          codegen: true,
        }
      : false,
  });
  await build.close();
  for (const chunk of output) {
    // code-cache.cts has no import() for them: rolldown makes require() of those of files, not of Node's own modules.
    if (format === 'cjs' && chunk.code.split('\n').some((line) => IMPORT.test(line) && !COMMENT.test(line))) {
      throw new Error(`${chunk.fileName}: an import() is left in it`);
    }
    for (const id of chunk.moduleIds) modules.add(id);
    writeFileSync(join(dir, chunk.fileName), toAscii(chunk.code));
  }
  return modules;
}

function copyTerminfo(to) {
  mkdirSync(to, { recursive: true });
  for (const name of TERMINFO)
    copyFileSync(join(repository, 'node_modules/blessed/usr', name), join(to, name));
}

async function bundleForClone() {
  const bin = join(dist, 'bin');
  for (const name of readdirSync(bin)) {
    if (/\.c(js|js\.cache)$/.test(name) && !LOADERS.includes(name)) rmSync(join(bin, name));
  }
  await bundle({ main }, { dir: bin, format: 'cjs', small: false });
  rmSync(join(dist, 'lib'), { recursive: true, force: true });
  await bundle({ index }, { dir: join(dist, 'lib'), format: 'esm', small: false });
  copyTerminfo(join(dist, 'usr'));
  for (const name of readdirSync(bin)) {
    if (name.endsWith('.cjs') && !LOADERS.includes(name)) save(join(bin, name));
  }
  chmodSync(join(bin, 'tsvm.cjs'), 0o755);
}

async function bundleForPackage(folder) {
  const bin = join(folder, 'dist/bin');
  const modules = [
    ...(await bundle({ main, index }, { dir: bin, format: 'cjs', small: true })),
    ...(await bundle({ index }, { dir: join(folder, 'dist/lib'), format: 'esm', small: true })),
  ];
  for (const name of LOADERS) cpSync(join(dist, 'bin', name), join(bin, name));
  copyTerminfo(join(folder, 'dist/usr'));
  writeFileSync(join(folder, 'THIRD-PARTY-NOTICES'), thirdPartyNotices(modules));
}

const [option, folder] = process.argv.slice(2);
await (option === '--package' ? bundleForPackage(folder) : bundleForClone());
