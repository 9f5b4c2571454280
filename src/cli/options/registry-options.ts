/** Registries as this user's files and variables have them, where podman, docker and curl look. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { RegistrySettings } from '../../image/registry/pull.js';

/** Certificates that the host trusts, on Debian and its relatives; Node has a list of its own. */
const HOST_CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt';

/** Reads the environment. An empty variable is none. */
export function registrySettings(
  own: Readonly<Record<string, string | undefined>> = process.env,
): RegistrySettings {
  const config = own['XDG_CONFIG_HOME'] || join(homedir(), '.config');
  const runtime = own['XDG_RUNTIME_DIR'];
  const docker = own['DOCKER_CONFIG'] || join(homedir(), '.docker');
  const podman = own['REGISTRY_AUTH_FILE']
    ? [own['REGISTRY_AUTH_FILE']]
    : [...(runtime ? [join(runtime, 'containers/auth.json')] : []), join(config, 'containers/auth.json')];
  const host = own['SSL_CERT_FILE'] || (existsSync(HOST_CERTIFICATES) ? HOST_CERTIFICATES : undefined);
  return {
    rules: join(config, 'tsvm/registries.json'),
    credentials: [...podman, join(docker, 'config.json')],
    proxy: {
      http: own['http_proxy'] || own['HTTP_PROXY'],
      https: own['https_proxy'] || own['HTTPS_PROXY'],
      no: own['no_proxy'] || own['NO_PROXY'],
    },
    certificates: [host, own['NODE_EXTRA_CA_CERTS']].filter(
      (path) => path !== undefined && path !== '',
    ) as string[],
  };
}
