/** In pixels of the canvas. */
const PEN = 24;
const STEP = 16;

const MOVES = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

/**
 * A canvas to draw on with mouse, pen, touch or keyboard: opaque, light ink on black, as in most
 * handwriting data sets, so that models get the contrast of their training data.
 *
 * Dispatches `begin` before a stroke, `ink` when ink is added, and `end` after the stroke.
 */
export class Pad extends EventTarget {
  #canvas;
  #cursor;
  #context;
  #pointer = null;
  #last = null;
  #middle = null;
  #key = { x: 0, y: 0, down: false };

  constructor(canvas, cursor) {
    super();
    this.#canvas = canvas;
    this.#cursor = cursor;
    this.#context = canvas.getContext('2d', { alpha: false, willReadFrequently: true });
    this.#key = { x: canvas.width / 2, y: canvas.height / 2, down: false };
    this.clear();
    canvas.addEventListener('pointerdown', (event) => this.#touch(event));
    canvas.addEventListener('pointermove', (event) => this.#drag(event));
    canvas.addEventListener('pointerup', (event) => this.#lift(event));
    canvas.addEventListener('pointercancel', (event) => this.#lift(event));
    canvas.addEventListener('keydown', (event) => this.#press(event));
    canvas.addEventListener('blur', () => this.#leave());
  }

  /** Whether a stroke is in progress. */
  get drawing() {
    return this.#pointer !== null || this.#key.down;
  }

  clear() {
    const { width, height } = this.#canvas;
    this.#context.fillStyle = '#000';
    this.#context.fillRect(0, 0, width, height);
  }

  /** Show a picture, scaled to fit. */
  show(image) {
    this.clear();
    const { width, height } = this.#canvas;
    const scale = Math.min(width / image.width, height / image.height);
    const [w, h] = [image.width * scale, image.height * scale];
    this.#context.drawImage(image, (width - w) / 2, (height - h) / 2, w, h);
  }

  /** The content of the canvas, as PNG. */
  toBlob() {
    return new Promise((resolve) => this.#canvas.toBlob(resolve, 'image/png'));
  }

  #touch(event) {
    if (!event.isPrimary || event.button !== 0 || this.drawing) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#pointer = event.pointerId;
    this.#cursor.hidden = true;
    this.#begin(this.#place(event));
  }

  #drag(event) {
    if (event.pointerId !== this.#pointer) return;
    // The browser coalesces the events of a fast pen between two frames.
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.#draw(this.#place(each));
    this.#tell('ink');
  }

  #lift(event) {
    if (event.pointerId !== this.#pointer) return;
    this.#pointer = null;
    this.#end();
  }

  /** The position of an event on the canvas, and the width of the pen. */
  #place(event) {
    const box = this.#canvas.getBoundingClientRect();
    const pressure = event.pointerType === 'pen' && event.pressure > 0 ? event.pressure : 0.5;
    return {
      x: ((event.clientX - box.left) / box.width) * this.#canvas.width,
      y: ((event.clientY - box.top) / box.height) * this.#canvas.height,
      width: PEN * (0.5 + pressure),
    };
  }

  #begin(point) {
    this.#tell('begin');
    this.#last = point;
    this.#middle = point;
    this.#line(point, (path) => path.lineTo(point.x, point.y));
    this.#tell('ink');
  }

  /** Draw curves between the midpoints of the points, so that the line has no corners. */
  #draw(point) {
    const last = this.#last;
    const middle = { x: (last.x + point.x) / 2, y: (last.y + point.y) / 2 };
    this.#line(point, (path) => path.quadraticCurveTo(last.x, last.y, middle.x, middle.y));
    this.#last = point;
    this.#middle = middle;
  }

  #end() {
    this.#line(this.#last, (path) => path.lineTo(this.#last.x, this.#last.y));
    this.#tell('ink');
    this.#tell('end');
  }

  #line(point, extend) {
    const path = new Path2D();
    path.moveTo(this.#middle.x, this.#middle.y);
    extend(path);
    this.#context.lineCap = 'round';
    this.#context.lineJoin = 'round';
    this.#context.lineWidth = point.width;
    this.#context.strokeStyle = '#fff';
    this.#context.stroke(path);
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.#pointer !== null) return;
    if (event.key in MOVES) this.#step(...MOVES[event.key]);
    else if (event.key === ' ') this.#toggle();
    else if (event.key === 'Delete' || event.key === 'Backspace') this.#tell('clear');
    else return;
    event.preventDefault();
    this.#showCursor();
  }

  #step(across, down) {
    const within = (value, end) => Math.min(Math.max(value, 0), end);
    this.#key.x = within(this.#key.x + across * STEP, this.#canvas.width);
    this.#key.y = within(this.#key.y + down * STEP, this.#canvas.height);
    if (!this.#key.down) return;
    this.#draw({ ...this.#key, width: PEN });
    this.#tell('ink');
  }

  #toggle() {
    this.#key.down = !this.#key.down;
    if (this.#key.down) this.#begin({ ...this.#key, width: PEN });
    else this.#end();
  }

  #leave() {
    this.#cursor.hidden = true;
    if (this.#key.down) this.#toggle();
  }

  #showCursor() {
    this.#cursor.hidden = false;
    this.#cursor.toggleAttribute('data-down', this.#key.down);
    this.#cursor.style.left = `${(100 * this.#key.x) / this.#canvas.width}%`;
    this.#cursor.style.top = `${(100 * this.#key.y) / this.#canvas.height}%`;
  }

  #tell(what) {
    this.dispatchEvent(new Event(what));
  }
}
