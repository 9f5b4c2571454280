/** Slots of network cards: what each is plugged into. */
import { TsvmError } from '../../errors.js';
import type { PortForward } from '../backends/net.js';
import { type Binding, type HostUse, numberedSlot, refuseOther, withoutCommas } from '../host-slot.js';
import { checkNetConfig, type NetConfig, parseNet } from './options.js';

/** Fields that are the host's. The others are known to the guest's driver, or bound what it may do. */
const OF_HOST = ['backend', 'name', 'forwards', 'loopback'] as const;

export const netHostUse: HostUse = {
  cliArgument: 'N=user[,hostfwd=tcp:ADDR:PORT-:GUESTPORT][,loopback=yes] | N=tap,name=TAP',
  ownFolder: false,
  pathFields: [],
  slots: (config, ordinal) => [
    { name: `net ${ordinal}`, key: `${ordinal}`, wish: hostPart(checkNetConfig(config)) },
  ],
  bind(config, slot, binding) {
    const saved = checkNetConfig(config);
    const given = checkNetConfig(binding);
    if (given.backend !== saved.backend) {
      throw new TsvmError(
        'TSVM_CONFIG',
        `${slot} was saved with ${saved.backend}: its driver knows what that can do, and ${given.backend} cannot stand for it`,
        { hint: `bind it to ${saved.backend === 'tap' ? 'tap,name=TAP' : 'user'}` },
      );
    }
    refuseOther(slot, saved, given, OF_HOST);
    const { backend: _backend, name: _name, forwards: _forwards, loopback: _loopback, ...ofGuest } = saved;
    return { ...ofGuest, ...hostPart(given) };
  },
  describe({ backend, name, loopback, forwards }, show) {
    if (backend === 'tap') return `the interface ${show(String(name))}`;
    const ports = ((forwards ?? []) as readonly PortForward[]).map(
      ({ protocol, address, port }) => `${protocol} ${address === '' ? '*' : address}:${port}`,
    );
    const more = [
      ...(loopback === true ? ['its loopback'] : []),
      ...(ports.length === 0 ? [] : [`its ports ${ports.join(', ')}`]),
    ];
    return ["this host's network as this user's", ...more].join(', ');
  },
  toCli({ key }, { backend, name, loopback, forwards }) {
    if (backend === 'tap') return withoutCommas([name]) ? `${key}=tap,name=${name}` : undefined;
    const ports = ((forwards ?? []) as readonly PortForward[]).map(
      ({ protocol, address, port, guestPort }) => `,hostfwd=${protocol}:${address}:${port}-:${guestPort}`,
    );
    return `${key}=user${ports.join('')}${loopback === true ? ',loopback=yes' : ''}`;
  },
  fromCli(text) {
    const [ordinal, place] = numberedSlot('net', text, '0=user');
    return [{ slot: `net ${ordinal}`, binding: { ...parseNet(place) } }];
  },
};

function hostPart(config: NetConfig): Binding {
  return Object.fromEntries(
    OF_HOST.flatMap((key) => (config[key] === undefined ? [] : [[key, config[key]]])),
  );
}
