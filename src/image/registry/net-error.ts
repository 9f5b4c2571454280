/** Failures of the network: those that may pass, and those that stay, each in words. */
import { TsvmError } from '../../errors.js';

/** Failure that may pass: the same request again may succeed. */
export class Interruption extends Error {
  override readonly name = 'Interruption';
  /** Time that the registry asked for, before the next try. */
  readonly retryAfterMs: number | undefined;

  constructor(message: string, options: { retryAfterMs?: number | undefined; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.retryAfterMs = options.retryAfterMs;
  }
}

const PASSING: Readonly<Record<string, string>> = {
  EAI_AGAIN: 'its address could not be looked up (no network?)',
  ECONNREFUSED: 'nobody answers there',
  ECONNRESET: 'the connection was cut',
  ECONNABORTED: 'the connection was cut',
  EPIPE: 'the connection was cut',
  ETIMEDOUT: 'it does not answer',
  EHOSTUNREACH: 'it cannot be reached',
  ENETUNREACH: 'there is no network',
  ENETDOWN: 'there is no network',
};

const TRUST_HINT =
  'if its certificates are of an authority of your own: "ca" in the rules for registries (docs/images.md), or SSL_CERT_FILE';

/** Tells what went wrong with a connection or an answer, as an {@link Interruption} or a TsvmError. */
export function networkError(host: string, cause: unknown): Error {
  if (cause instanceof TsvmError || cause instanceof Interruption) return cause;
  const { code = '', message } = cause as NodeJS.ErrnoException;
  const error = (why: string, hint: string): TsvmError =>
    new TsvmError('TSVM_HOST', `${host}: ${why}`, { hint, cause });
  const passing = PASSING[code];
  if (passing !== undefined) return new Interruption(`${host}: ${passing}`, { cause });
  if (code === 'ENOTFOUND') return error('there is no such host', 'check the name of the registry');
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return error('its certificate is another host’s', 'check the name of the registry');
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID')
    return error('its certificate is not valid today', 'check the clock of this host: date');
  if (/CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|ISSUER/.test(code))
    return error(`its certificate is not trusted (${code})`, TRUST_HINT);
  if (code === 'EPROTO' || code.startsWith('ERR_SSL'))
    return error(
      'it does not speak TLS',
      'if it is meant to be without: "plainHttp": true in the rules for registries (docs/images.md)',
    );
  if (code.startsWith('HPE_'))
    return error(`what it answers is not HTTP, or too long (${code})`, 'check the name and the port');
  return new Interruption(`${host}: ${message}`, { cause });
}
