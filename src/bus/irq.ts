/** An interrupt line as a device sees it: one method, so that the UART does not know that irqfd exists. */
export interface Irq {
  /** Raises one edge. */
  trigger(): void;
}
