/** Request for a vsock, and its row in the registry. */
import { checkCid, DEFAULT_CID } from '../backends/vsock.js';
import type { DeviceKind, DeviceRequest } from '../kind.js';
import { checkVsockConfig, parseVsock, type VsockConfig, vsockHostUse, vsockPaths } from './config.js';
import { Vsock } from './vsock.js';

/** Asks for a virtio-vsock. */
export function vsock(config: VsockConfig = {}): DeviceRequest<'vsock'> {
  const { path, cid = DEFAULT_CID } = config;
  checkCid(cid);
  return {
    kind: 'vsock',
    config: { ...(path === undefined ? {} : { path }), cid },
    ...(path === undefined ? {} : { look: (host) => host.vsock(path) }),
    async open(host) {
      const side = await host.openVsock(path);
      const device = new Vsock({ host: side, cid });
      side.attach(device);
      return device;
    },
  };
}

export const vsockKind: DeviceKind = {
  summary:
    'sockets to the guest (AF_VSOCK there): Unix sockets at PATH, and PATH_PORT for those that it connects to',
  guestKconfig: 'CONFIG_VIRTIO_VSOCKETS',
  cliFlag: 'vsock',
  cliArgument: 'PATH[,cid=N]',
  fromCli: (text) => vsock(parseVsock(text)),
  fromConfig: (config) => vsock(checkVsockConfig(config)),
  paths: vsockPaths,
  hostUse: vsockHostUse,
};
