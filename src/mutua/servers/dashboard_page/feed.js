// The connection to `mutua dashboard`: the newest state, and whether it still comes.
const HEARTBEAT = 10_000;
const RETRY = 2_000;
const HIDDEN = 60_000;

export class Feed {
  constructor(onMoment, onState) {
    this.onMoment = onMoment;
    this.onState = onState;
    this.paused = false;
    document.addEventListener("visibilitychange", () => this.onVisibility());
    // Timers stand still while the machine sleeps; the clock does not. Whoever wakes up notices here.
    setInterval(() => this.check(), 2_000);
    this.open();
  }

  open() {
    this.close();
    if (this.paused) return;
    this.heard = Date.now();
    this.source = new EventSource("events");
    this.source.addEventListener("moment", (event) => {
      this.hear();
      this.onMoment(JSON.parse(event.data));
    });
    this.source.addEventListener("alive", () => this.hear());
    this.source.addEventListener("error", () => {
      this.onState(false);
      // After a refusal the browser does not try again by itself.
      if (this.source?.readyState === EventSource.CLOSED) this.later();
    });
  }

  hear() {
    this.heard = Date.now();
    this.onState(true);
  }

  later() {
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.open(), RETRY);
  }

  close() {
    clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
  }

  check() {
    if (!this.source || Date.now() - this.heard < 2.5 * HEARTBEAT) return;
    this.onState(false);
    this.open();
  }

  pause(paused) {
    this.paused = paused;
    if (paused) this.close();
    else this.open();
  }

  // Nobody looks: nothing is read for this window, until it is looked at again.
  onVisibility() {
    clearTimeout(this.hiding);
    if (document.hidden) this.hiding = setTimeout(() => this.close(), HIDDEN);
    else if (!this.source) this.open();
  }
}
