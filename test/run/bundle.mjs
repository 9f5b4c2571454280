/**
 * Bundles the tests that run in the rig, and the programs that run tests, into test/built/. In the rig, where JavaScript is 10 to 30
 * times slower, compiling and loading some three hundred modules for each file would take longer than most of the tests.
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { rolldown } from 'rolldown';

const test = join(import.meta.dirname, '..');
const built = join(test, 'built');

const programs = ['run/main', 'run/lane', 'run/prefetch'];
const tests = ['kvm', 'boot', 'container'].flatMap((tier) =>
  readdirSync(join(test, tier))
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => `${tier}/${name.slice(0, -'.ts'.length)}`),
);

/** A bundled module still finds files beside its source. */
const ownPlace = {
  name: 'own-place',
  transform(code, id) {
    if (!code.includes('import.meta.')) return undefined;
    return code
      .replaceAll('import.meta.dirname', JSON.stringify(join(id, '..')))
      .replaceAll('import.meta.filename', JSON.stringify(id))
      .replaceAll('import.meta.url', JSON.stringify(pathToFileURL(id).href));
  },
};

const bundle = await rolldown({
  input: Object.fromEntries([...programs, ...tests].map((name) => [name, join(test, `${name}.ts`)])),
  platform: 'node',
  external: [/^node:/, /^vitest($|\/)/, 'blessed'],
  plugins: [ownPlace],
  transform: { target: 'es2022' },
  checks: { ineffectiveDynamicImport: false },
  logLevel: 'warn',
});
rmSync(built, { recursive: true, force: true });
await bundle.write({
  dir: built,
  entryFileNames: '[name].mjs',
  chunkFileNames: 'shared/[name].mjs',
  // Else a module that a test imports while it runs may be put into the file of another test.
  codeSplitting: {
    groups: [
      { name: 'packages', test: /node_modules/ },
      { name: 'src', test: /\/src\// },
      { name: 'support', test: /\/test\/(?!.*\.test\.ts$|run\/)/ },
    ],
  },
});
await bundle.close();
