/** Debounce time of changes, in milliseconds. */
const GATHER = 60;

/**
 * Sends one request at a time. Meanwhile only the newest question waits, so that requests do not
 * overlap and answers arrive in order.
 */
export class Asker {
  #answer;
  #waiting = null;
  #running = false;
  #stop = new AbortController();

  /** @param {(question: any, signal: AbortSignal) => Promise<void>} answer must not throw. */
  constructor(answer) {
    this.#answer = answer;
  }

  /** Ask this after the current request, instead of the question that waits. */
  ask(question) {
    this.#waiting = question;
    if (!this.#running) this.#run();
  }

  /** Discard the question that waits, and abort the current request. */
  cancel() {
    this.#waiting = null;
    this.#stop.abort();
  }

  async #run() {
    this.#running = true;
    while (this.#waiting !== null) {
      await new Promise((resolve) => setTimeout(resolve, GATHER));
      const question = this.#waiting;
      if (question === null) break;
      this.#waiting = null;
      this.#stop = new AbortController();
      await this.#answer(question, this.#stop.signal);
    }
    this.#running = false;
  }
}
