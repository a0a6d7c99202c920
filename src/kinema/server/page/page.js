// The player, its timeline, uploads and the webcam. Uploads go to /v1/files like any client's.
() => {
  const $ = (id) => document.getElementById(id);
  const clock = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;
  const parse = (t) => t.split(":").reduce((sum, part) => sum * 60 + parseFloat(part || 0), 0);
  let duration = 0;

  // Words for Gradio's own fields, which listen to input events.
  const field = (id) => document.querySelector(`#${id} textarea, #${id} input`);
  const put = (id, text) => {
    const input = field(id);
    const setter = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(input), "value").set;
    setter.call(input, text);
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };

  // A signal to the server: what to open; the number tells two alike apart.
  const open = (what) => put("file-id", `${what} ${Date.now()}`);

  const show = (...ids) => {
    document.body.dataset.stage = ids[0];
    for (const id of ["drop", "player", "camera", "upload"]) $(id).hidden = !ids.includes(id);
  };
  const say = (text, isError = false) => {
    $("upload").textContent = text;
    $("upload").classList.toggle("error", isError);
    $("upload").setAttribute("role", isError ? "alert" : "status");
    $("upload").hidden = !text;
  };

  const upload = (file, name) => {
    const request = new XMLHttpRequest();
    const body = new FormData();
    body.append("purpose", "page");
    body.append("file", file, name);
    request.open("POST", "v1/files");
    request.upload.onprogress = (e) => {
      say(`Sending ${name}: ${Math.round((100 * e.loaded) / e.total)} %`);
    };
    request.onerror = () => { show("drop"); say("The server cannot be reached. Is it running?", true); };
    request.onload = () => {
      const answer = JSON.parse(request.responseText || "{}");
      if (request.status === 200) { say(""); open(answer.id); return; }
      show("drop");
      say(answer.error?.message ?? "The server did not take this file.", true);
    };
    show("upload");
    say(`Sending ${name} …`);
    request.send(body);
  };

  const play = ({ id, name }) => {
    if (!id) { show("drop"); return; }
    show("player");
    say("");
    $("unplayable").hidden = true;
    $("name").textContent = name || "";
    const video = $("video");
    video.src = `v1/files/${id}/content`;
    unmark();
  };
  const seek = (seconds) => {
    $("video").currentTime = seconds;
    $("video").scrollIntoView({ block: "nearest", behavior: "smooth" });
    needle();
  };

  const length = () => {
    const known = $("video").duration;
    const strip = document.querySelector(".strip");
    return Number.isFinite(known) && known > 0 ? known : Number(strip?.dataset.duration) || duration;
  };
  const percent = (seconds) => `${Math.min(100, (100 * seconds) / (length() || 1))}%`;
  const needle = () => { $("needle").style.left = percent($("video").currentTime); };
  const drawMark = () => {
    const start = field("start").value, end = field("end").value;
    $("mark").hidden = !start && !end;
    const from = start ? parse(start) : 0, to = end ? parse(end) : length();
    $("mark").style.left = percent(from);
    $("mark").style.width = percent(Math.max(0, to - from));
  };
  const mark = (start, end) => {
    if (start !== null) put("start", start === "" ? "" : clock(start));
    if (end !== null) put("end", end === "" ? "" : clock(end));
    drawMark();
  };
  const unmark = () => mark("", "");

  const drag = (event) => {
    const box = $("track").getBoundingClientRect();
    const at = (e) => Math.max(0, Math.min(1, (e.clientX - box.left) / box.width)) * length();
    const first = at(event);
    $("track").setPointerCapture(event.pointerId);
    const move = (e) => {
      const [from, to] = [first, at(e)].sort((a, b) => a - b);
      if (to - from > length() / 100) mark(from, to);
    };
    const end = (e) => {
      $("track").removeEventListener("pointermove", move);
      if (Math.abs(at(e) - first) <= length() / 100) seek(first);
    };
    $("track").addEventListener("pointermove", move);
    $("track").addEventListener("pointerup", end, { once: true });
  };

  const camera = { stream: null, recorder: null };
  const cameraOff = () => {
    camera.stream?.getTracks().forEach((track) => track.stop());
    camera.stream = camera.recorder = null;
    $("record").textContent = "Record";
  };
  const cameraOn = async () => {
    try {
      camera.stream = await navigator.mediaDevices.getUserMedia({ video: true });
    } catch {
      say("The browser gives no webcam. Allow it, and open the page as https or on localhost.", true);
      return;
    }
    show("camera");
    say("");
    $("preview").srcObject = camera.stream;
    $("preview").play();
  };
  const record = () => {
    if (camera.recorder) { camera.recorder.stop(); return; }
    const pieces = [];
    camera.recorder = new MediaRecorder(camera.stream);
    camera.recorder.ondataavailable = (e) => pieces.push(e.data);
    camera.recorder.onstop = () => {
      cameraOff();
      upload(new Blob(pieces, { type: "video/webm" }), "webcam.webm");
    };
    camera.recorder.start();
    $("record").textContent = "Stop and use";
  };

  const clicks = {
    choose: () => $("file").click(),
    webcam: cameraOn,
    example: () => { say("Opening the example …"); open("example"); },
    another: () => { $("video").pause(); say(""); open(""); show("drop"); },
    "mark-start": () => mark($("video").currentTime, null),
    "mark-end": () => mark(null, $("video").currentTime),
    "mark-none": unmark,
    record,
    "camera-off": () => { cameraOff(); show("drop"); },
    theme: () => {
      const dark = document.body.classList.toggle("dark");
      localStorage.setItem("kinema-theme", dark ? "dark" : "light");
    },
  };

  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-seek], button[id]");
    if (target?.dataset.seek) seek(Number(target.dataset.seek));
    else clicks[target?.id]?.();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey) return;
    const keys = { i: "mark-start", o: "mark-end", Escape: "mark-none" };
    if (keys[event.key] && !$("player").hidden) clicks[keys[event.key]]();
    if (event.key === "/") { event.preventDefault(); field("question").focus(); }
  });
  document.addEventListener("input", (event) => {
    if (event.target.closest("#start, #end")) drawMark();
  });

  const wire = () => {
    $("file").addEventListener("change", () => {
      if ($("file").files[0]) upload($("file").files[0], $("file").files[0].name);
      $("file").value = "";
    });
    for (const kind of ["dragover", "dragleave", "drop"]) {
      document.addEventListener(kind, (event) => {
        event.preventDefault();
        $("drop").classList.toggle("over", kind === "dragover");
        if (kind === "drop" && event.dataTransfer.files[0]) {
          upload(event.dataTransfer.files[0], event.dataTransfer.files[0].name);
        }
      });
    }
    $("track").addEventListener("pointerdown", drag);
    $("video").addEventListener("timeupdate", needle);
    $("video").addEventListener("loadedmetadata", () => { needle(); drawMark(); });
    $("video").addEventListener("error", () => { $("unplayable").hidden = false; });
  };

  const chosen = localStorage.getItem("kinema-theme");
  if (chosen) document.body.classList.toggle("dark", chosen === "dark");
  window.kinema = { play, say };
  const waiting = setInterval(() => {
    if (!$("track")) return;
    clearInterval(waiting);
    wire();
    show("drop");
    const given = new URLSearchParams(location.search).get("video");
    if (given) open(given);
  }, 50);
}
