import { expect, test } from 'vitest';
import { withPublished } from '../../../src/cli/options/publish-option.js';

test.each([
  [undefined, undefined, undefined],
  [['tap,name=x'], undefined, ['tap,name=x']],
  [undefined, ['8080:80'], ['user,hostfwd=tcp:127.0.0.1:8080-:80']],
  [['user,mtu=1400'], ['0.0.0.0:53:53/udp'], ['user,mtu=1400,hostfwd=udp:0.0.0.0:53-:53']],
  [
    ['user', 'tap,name=x'],
    ['1:2', '3:4/tcp'],
    ['user,hostfwd=tcp:127.0.0.1:1-:2,hostfwd=tcp:127.0.0.1:3-:4', 'tap,name=x'],
  ],
])('withPublished(%j, %j)', (net, published, expected) =>
  expect(withPublished(net, published)).toEqual(expected),
);

test.each(['80', '8080-8090:80', ':80', '8080:80/sctp', 'host:1:2', '1:2:3', ''])(
  'withPublished() refuses %j in one line with an example',
  (text) => expect(() => withPublished(undefined, [text])).toThrow(/^--publish: .* is not \[ADDRESS/),
);

test('withPublished() refuses a card that has no ports of the host', () =>
  expect(() => withPublished(['tap,name=x'], ['1:2'])).toThrow('has no ports of the host'));
