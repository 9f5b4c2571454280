import { expect, test } from 'vitest';
import { ADDON_CAUSE_IDS, type AddonFacts, addonCause } from '../../../src/native/addon-error.js';

const PATH = '/app/node_modules/tsvm/kvm_addon.node';
const ANEW = 'build it again';

/** Words of Node and of the loaders of glibc 2.36 and musl 1.2, and what the remedy has to name. */
const SAID: Readonly<Record<string, readonly (readonly [Partial<AddonFacts>, remedy: RegExp])[]>> = {
  'switched-off': [
    [
      {
        code: 'ERR_DLOPEN_DISABLED',
        said: 'Cannot load native addon because loading addons is disabled.',
      },
      /--allow-addons/,
    ],
  ],
  missing: [
    [{ code: 'MODULE_NOT_FOUND', said: `Cannot find module '${PATH}'`, file: 'missing' }, /^build it again$/],
    [{ said: `Error loading shared library ${PATH}: No such file or directory`, file: 'missing' }, /^build/],
  ],
  permission: [
    [
      { said: `${PATH}: cannot open shared object file: Permission denied`, file: 'unreadable' },
      /chmod a\+r \/app/,
    ],
    [{ said: `Error loading shared library ${PATH}: Permission denied` }, /chmod/],
    [{ code: 'MODULE_NOT_FOUND', said: `Cannot find module '${PATH}'`, file: 'unreadable' }, /folders above/],
  ],
  damaged: [
    [{ said: `${PATH}: file too short`, file: 'no object' }, /damaged: build it again/],
    [{ said: `${PATH}: invalid ELF header`, file: 'no object' }, /damaged/],
    [{ said: `Error loading shared library ${PATH}: Exec format error`, file: 'no object' }, /damaged/],
  ],
  architecture: [
    [{ said: `${PATH}: wrong ELF class: ELFCLASS32`, file: 'foreign' }, /another processor.*build it again/],
    [
      { said: `${PATH}: cannot open shared object file: No such file or directory`, file: 'foreign' },
      /processor/,
    ],
  ],
  'mounted-noexec': [[{ said: `${PATH}: failed to map segment from shared object` }, /remount,exec/]],
  'glibc-too-old': [
    [
      { said: `/lib/x86_64-linux-gnu/libc.so.6: version \`GLIBC_2.38' not found (required by ${PATH})` },
      /glibc 2\.38 or later/,
    ],
  ],
  'libstdc++-too-old': [
    [
      { said: `/lib/libstdc++.so.6: version \`GLIBCXX_3.4.32' not found (required by ${PATH})` },
      /libstdc\+\+6/,
    ],
    [
      { said: `/lib/libstdc++.so.6: version \`CXXABI_1.3.15' not found (required by ${PATH})` },
      /libstdc\+\+6/,
    ],
  ],
  'node-too-old': [
    [{ said: `${PATH}: undefined symbol: node_api_create_syntax_error` }, /Node\.js 24/],
    [{ said: `Error relocating ${PATH}: napi_get_all_property_names: symbol not found` }, /Node\.js 24/],
  ],
  musl: [
    [
      {
        said: `Error loading shared library ld-linux-x86-64.so.2: No such file or directory (needed by ${PATH})`,
      },
      /musl.*bookworm/,
    ],
    [
      { said: `Error loading shared library libstdc++.so.6: No such file or directory (needed by ${PATH})` },
      /musl/,
    ],
    [{ said: `Error relocating ${PATH}: __vsnprintf_chk: symbol not found` }, /musl/],
    [{ said: 'ld-linux-x86-64.so.2: cannot open shared object file: No such file or directory' }, /musl/],
  ],
  'built-for-musl': [
    [
      { said: 'libc.musl-x86_64.so.1: cannot open shared object file: No such file or directory' },
      /this host has glibc/,
    ],
  ],
  'library-missing': [
    [
      { said: 'libstdc++.so.6: cannot open shared object file: No such file or directory' },
      /^apt-get install libstdc\+\+6$/,
    ],
    [{ said: 'libgcc_s.so.1: cannot open shared object file: No such file or directory' }, /libgcc-s1/],
    [
      { said: 'libother.so.1: cannot open shared object file: No such file or directory' },
      /^install libother\.so\.1$/,
    ],
  ],
  'node-abi': [
    [
      {
        said: `The module '${PATH}' was compiled against a different Node.js version using NODE_MODULE_VERSION 108.`,
      },
      /another version of Node\.js: build/,
    ],
    [{ said: `Module did not self-register: '${PATH}'.` }, /another version/],
  ],
  unknown: [[{ said: 'something else' }, /^build it again$/]],
};

test.each(ADDON_CAUSE_IDS)('addonCause() %s is told from the others by what is said', (id) => {
  const cases = SAID[id] ?? [];
  expect(cases.length).toBeGreaterThan(0);
  for (const [facts, remedy] of cases) {
    const found = addonCause(
      { code: 'ERR_DLOPEN_FAILED', said: '', path: PATH, file: 'good', ...facts },
      ANEW,
    );
    expect([found.id, facts.said]).toEqual([id, facts.said]);
    expect(found.remedy).toMatch(remedy);
  }
});
