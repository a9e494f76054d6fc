/** Milliseconds in which changes gather before the server is asked about them. */
const GATHER = 60;

/**
 * Asks one question at a time. While one is being answered only the newest waits, so requests never
 * overlap and an answer never comes after that of a newer question.
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

  /** Ask this as soon as what is being asked has been answered, instead of what waits. */
  ask(question) {
    this.#waiting = question;
    if (!this.#running) this.#run();
  }

  /** Forget what waits, and drop what is being asked. */
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
