/** A file of the host in the guest's memory, beside RAM. */
export interface PmemBackend {
  /** Guest physical. */
  readonly addr: number;
  readonly sizeBytes: number;
  close(): Promise<void>;
}
