/** Names of images: docker's grammar, and what it refuses. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TsvmError } from '../../../src/errors.js';
import {
  formatReference,
  isHost,
  parseReference,
  type Reference,
  shortReference,
} from '../../../src/image/reference.js';

const HEX = '0123456789abcdef'.repeat(4);
const DIGEST = `sha256:${HEX}`;

describe('parseReference()', () => {
  test.each<[string, Reference, string]>([
    ['debian', { registry: 'docker.io', repository: 'library/debian', tag: 'latest' }, 'debian:latest'],
    ['debian:12', { registry: 'docker.io', repository: 'library/debian', tag: '12' }, 'debian:12'],
    ['user/repo', { registry: 'docker.io', repository: 'user/repo', tag: 'latest' }, 'user/repo:latest'],
    [
      'docker.io/debian',
      { registry: 'docker.io', repository: 'library/debian', tag: 'latest' },
      'debian:latest',
    ],
    ['index.docker.io/a/b:1', { registry: 'docker.io', repository: 'a/b', tag: '1' }, 'a/b:1'],
    [
      'docker.io/library/a/b:1',
      { registry: 'docker.io', repository: 'library/a/b', tag: '1' },
      'library/a/b:1',
    ],
    ['localhost/a', { registry: 'localhost', repository: 'a', tag: 'latest' }, 'localhost/a:latest'],
    ['host:5000/a', { registry: 'host:5000', repository: 'a', tag: 'latest' }, 'host:5000/a:latest'],
    ['host:5000', { registry: 'docker.io', repository: 'library/host', tag: '5000' }, 'host:5000'],
    ['[::1]:5000/a:b', { registry: '[::1]:5000', repository: 'a', tag: 'b' }, '[::1]:5000/a:b'],
    ['Host.Example/a:B', { registry: 'host.example', repository: 'a', tag: 'B' }, 'host.example/a:B'],
    [
      'a__b/c--d.e_f',
      { registry: 'docker.io', repository: 'a__b/c--d.e_f', tag: 'latest' },
      'a__b/c--d.e_f:latest',
    ],
    [
      `host:5000/a/b@${DIGEST}`,
      { registry: 'host:5000', repository: 'a/b', digest: DIGEST },
      `host:5000/a/b@${DIGEST}`,
    ],
    [
      `debian:12@${DIGEST}`,
      { registry: 'docker.io', repository: 'library/debian', tag: '12', digest: DIGEST },
      `debian:12@${DIGEST}`,
    ],
    [
      `a:${'t'.repeat(128)}`,
      { registry: 'docker.io', repository: 'library/a', tag: 't'.repeat(128) },
      `a:${'t'.repeat(128)}`,
    ],
  ])('takes %s apart', (text, reference, short) => {
    expect(parseReference(text)).toEqual(reference);
    expect(shortReference(reference)).toBe(short);
    expect(parseReference(shortReference(reference))).toEqual(reference);
    expect(parseReference(formatReference(reference))).toEqual(reference);
  });

  test.each([
    ['', /no name/],
    [':1', /no name/],
    ['Debian:12', /upper case.*\n.*debian:12/],
    ['docker.io/User/Repo', /upper case/],
    ['User/repo', /upper case/],
    [HEX, /it is an id\n.*NAME@sha256:/],
    ['docker://debian:12', /an address\nleave docker:\/\/ out: debian:12/],
    ['https://host/a', /an address/],
    ['docker-daemon:a:1', /it is in a store of this host, not in a registry/],
    ['containers-storage:docker.io/a', /in a store of this host/],
    ['a:', /'' is not a tag/],
    ['a:-b', /not a tag/],
    ['a:b:c', /'b:c' is not a tag/],
    [`a:${'t'.repeat(129)}`, /not a tag/],
    ['a@', /not a digest/],
    [`a@${DIGEST}0`, /not a digest/],
    [`a@sha256:${HEX.toUpperCase()}`, /not a digest/],
    [`a@sha512:${HEX}${HEX}`, /not a digest/],
    [`a@${DIGEST}@${DIGEST}`, /not a digest/],
    ['a//b', /'' is not part of a name/],
    ['a/', /'' is not part/],
    ['/a', /'' is not part/],
    ['host:5000/', /'' is not part/],
    ['../a', /not the name of a registry/],
    ['a/../b', /'..' is not part/],
    ['a/b?c', /not part/],
    ['a b', /not part/],
    ['a\n', /not part/],
    ['a___b', /not part/],
    ['-a', /not part/],
    ['ä', /not part/],
    ['host:0/a', /registry/],
    ['host:65536/a', /registry/],
    ['host:080/a', /registry/],
    ['host:x/a', /registry/],
    ['user@host.example/a', /not a digest/],
    ['host.example:5000:1/a', /registry/],
    ['-host.example/a', /registry/],
    ['0x7f.1/a', /registry/],
    ['127.1/a', /registry/],
    ['2130706433:80/a', /registry/],
    ['[::ffff:127.0.0.1]:80/a', /registry/],
    [`${'h'.repeat(300)}.example/a`, /registry/],
    [`a/${'b'.repeat(256)}`, /path is longer than 255/],
    ['a'.repeat(1025), /longer than 1024/],
  ])('refuses %j', (text, words) => {
    let said: unknown;
    try {
      parseReference(text);
    } catch (error) {
      said = error;
    }
    expect(said).toBeInstanceOf(TsvmError);
    const { code, message, hint } = said as TsvmError;
    expect(code).toBe('TSVM_IMAGE');
    expect(`${message}\n${hint}`).toMatch(words);
  });

  test('takes names without a registry from the one that is configured', () => {
    const parse = (text: string) => formatReference(parseReference(text, 'registry.example:5000/base'));
    expect(parse('debian')).toBe('registry.example:5000/base/debian:latest');
    expect(parse('user/repo')).toBe('registry.example:5000/user/repo:latest');
    expect(parse('docker.io/debian')).toBe('docker.io/library/debian:latest');
    expect(formatReference(parseReference('debian', 'registry.example'))).toBe(
      'registry.example/debian:latest',
    );
  });

  test('gives a name that stays the same, or refuses the text', () => {
    const text = fc.stringMatching(/^[a-zA-Z0-9./:@_\-[\]]{0,40}$/);
    fc.assert(
      fc.property(text, (name) => {
        let reference: Reference;
        try {
          reference = parseReference(name);
        } catch (error) {
          expect(error).toBeInstanceOf(TsvmError);
          return;
        }
        expect(parseReference(formatReference(reference))).toEqual(reference);
        expect(parseReference(shortReference(reference))).toEqual(reference);
        expect(new URL(`https://${reference.registry}/v2/${reference.repository}/`).pathname).toBe(
          `/v2/${reference.repository}/`,
        );
      }),
    );
  });
});

test('isHost() knows one form of each host', () => {
  expect(['a', 'a.b:1', '127.0.0.1', '[::1]', '[2001:db8::1]:443'].every(isHost)).toBe(true);
  expect(['', 'a:', 'a:0', '127.1', '0177.0.0.1', '[::0:1]', 'a/b', 'a@b', 'a_b', 'A'].some(isHost)).toBe(
    false,
  );
});
