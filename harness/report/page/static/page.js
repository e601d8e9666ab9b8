/* The page's state, mirrored in the address; what shows its variants; chips. */
(function () {
  'use strict';
  var root = document.documentElement;
  var json = document.getElementById('data');
  var data = json ? JSON.parse(json.textContent) : {};
  var first = (data.page && data.page.state) || {};
  var state = {}, listeners = [], telling = false;

  function read() {
    var found = {};
    location.hash.replace(/^#/, '').split('&').forEach(function (pair) {
      var cut = pair.indexOf('=');
      if (cut < 1) return;
      try { found[pair.slice(0, cut)] = decodeURIComponent(pair.slice(cut + 1).replace(/\+/g, ' ')); } catch (broken) { /* left out */ }
    });
    return found;
  }

  function written() {
    return Object.keys(state).filter(function (key) { return state[key] && state[key] !== first[key]; }).map(function (key) {
      return key + '=' + encodeURIComponent(state[key]).replace(/%2F/g, '/').replace(/%2C/g, ',');
    }).join('&');
  }

  function tell(changed) {
    if (telling) return;
    telling = true;
    try { listeners.forEach(function (listener) { listener(state, changed); }); } finally { telling = false; }
  }

  /* set('eps', '8/255') or set({norm: 'linf', eps: '8/255'}). */
  function set(key, value) {
    var wanted = typeof key === 'string' ? {} : key, changed = [];
    if (typeof key === 'string') wanted[key] = value;
    Object.keys(wanted).forEach(function (name) {
      var next = wanted[name] == null ? '' : String(wanted[name]);
      if ((state[name] || '') !== next) { state[name] = next; changed.push(name); }
    });
    if (!changed.length) return;
    var hash = written();
    try { history.replaceState(null, '', hash ? '#' + hash : location.pathname + location.search); } catch (refused) { location.hash = hash; }
    tell(changed);
  }

  function on(listener) { listeners.push(listener); listener(state, Object.keys(state)); }

  function fits(child) {
    return Object.keys(state).every(function (key) {
      var wanted = child.getAttribute('data-' + key);
      return wanted === null || wanted === state[key];
    });
  }

  function showVariants(within) {
    (within || document).querySelectorAll('.variants').forEach(function (box) {
      var all = Array.prototype.slice.call(box.children);
      if (!box.robustiqaFirst) box.robustiqaFirst = all.filter(function (child) { return !child.hidden; });
      var fitting = all.filter(fits);
      if (!fitting.length) fitting = box.robustiqaFirst;
      all.forEach(function (child) { child.hidden = fitting.indexOf(child) < 0; });
    });
  }

  function load() {
    var found = read();
    Object.keys(state).forEach(function (key) { if (!(key in first)) delete state[key]; });
    Object.keys(first).forEach(function (key) { state[key] = first[key]; });
    Object.keys(found).forEach(function (key) { state[key] = found[key]; });
  }

  load();
  root.classList.add('js');
  window.robustiqa = { data: data, state: state, set: set, on: on, showVariants: showVariants };
  addEventListener('hashchange', function () {
    if (location.hash && location.hash.indexOf('=') < 0) return;
    load();
    tell(Object.keys(state));
  });

  document.addEventListener('click', function (event) {
    var button = event.target.closest ? event.target.closest('.chips button') : null;
    if (!button) return;
    var values = button.getAttribute('data-value').split('+'), wanted = {};
    button.parentNode.getAttribute('data-key').split('+').forEach(function (key, place) { wanted[key] = values[place]; });
    set(wanted);
  });

  on(function () {
    document.querySelectorAll('.chips').forEach(function (group) {
      var now = group.getAttribute('data-key').split('+').map(function (key) { return state[key] || ''; }).join('+');
      group.querySelectorAll('button').forEach(function (button) {
        button.setAttribute('aria-pressed', String(button.getAttribute('data-value') === now));
      });
    });
    showVariants();
  });
})();
