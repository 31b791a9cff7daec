// How operations write values: as text, by % formats, as JSON.
#include <algorithm>
#include <cmath>

#include "core/base/strings.h"
#include "core/text/jinja/operations.h"

namespace inoculum::jinja {
namespace {

// Of a format, what follows a % and perhaps a name: flags, width, precision, type.
struct Conversion {
  std::string flags;
  size_t width = 0;
  std::optional<size_t> precision;
  char type = 0;

  std::string for_printf(const std::string& ending) const {
    return "%" + flags + std::to_string(width) +
           (precision ? "." + std::to_string(*precision) : "") + ending;
  }
};

// Leaves `i` at its last character.
Conversion conversion_at(const std::string& pattern, size_t& i) {
  const auto digits = [&] {
    size_t amount = 0;
    for (; i < pattern.size() && is_digit(static_cast<unsigned char>(pattern[i])); ++i)
      amount = std::min<size_t>(amount * 10 + static_cast<size_t>(pattern[i] - '0'), 10000);
    if (amount > 1000) throw Fault{"a width above 1000 is not supported"};
    return amount;
  };
  Conversion conversion;
  for (; i < pattern.size() && is_one_of(pattern[i], "-+ 0"); ++i) conversion.flags += pattern[i];
  conversion.width = digits();
  if (i < pattern.size() && pattern[i] == '.') {
    ++i;
    conversion.precision = digits();
  }
  if (i >= pattern.size()) throw Fault{"a format ends within %"};
  conversion.type = pattern[i];
  return conversion;
}

std::string converted_text(Operations& ops, const Conversion& conversion, const Value& value) {
  std::string bytes;
  if (conversion.type == 's') bytes = ops.str(value);
  else ops.repr(value, bytes);
  Text shown = decode(bytes);
  if (conversion.precision) shown = shown.substr(0, *conversion.precision);
  const bool left = conversion.flags.find('-') != std::string::npos;
  if (shown.size() < conversion.width)
    shown.insert(left ? shown.size() : 0, conversion.width - shown.size(), U' ');
  return encode(shown);
}

std::string converted_integer(Conversion conversion, const Value& value) {
  const char type = conversion.type;
  const bool decimal = !is_one_of(type, "xXo");
  if (!is_number(value) || (!decimal && !is_integer(value)))
    throw Fault{std::string("%") + type + " needs a number"};
  if (value.kind == Kind::real && !(std::abs(value.real) < 9e18))
    throw Fault{"a number is too large"};
  if (!decimal && value.integer < 0)
    throw Fault{std::string("%") + type + " of a negative number is not supported"};
  if (conversion.precision) {
    std::erase(conversion.flags, '0');
    conversion.precision = std::max<size_t>(*conversion.precision, 1);
  }
  char buffer[1500];
  std::snprintf(buffer, sizeof buffer,
                conversion.for_printf(std::string("l") + (type == 'u' ? 'd' : type)).c_str(),
                value.kind == Kind::real ? static_cast<int64_t>(value.real) : value.integer);
  return buffer;
}

std::string converted_real(Conversion conversion, const Value& value) {
  if (!is_number(value)) throw Fault{std::string("%") + conversion.type + " needs a number"};
  if (!std::isfinite(as_real(value))) std::erase(conversion.flags, '0');
  char buffer[1500];
  std::snprintf(buffer, sizeof buffer,
                conversion.for_printf(std::string(1, conversion.type)).c_str(), as_real(value));
  return buffer;
}

std::string converted(Operations& ops, const Conversion& conversion, const Value& value) {
  if (conversion.type == 's' || conversion.type == 'r')
    return converted_text(ops, conversion, value);
  if (is_one_of(conversion.type, "diuxXo")) return converted_integer(conversion, value);
  if (is_one_of(conversion.type, "fFeEgG")) return converted_real(conversion, value);
  throw Fault{std::string("%") + conversion.type + " is not supported in a format"};
}

void write_json_text(Operations& ops, const std::string& bytes, const Operations::JsonStyle& style,
                     std::string& out) {
  out += '"';
  for (const char32_t c : decode(bytes)) {
    static const std::string plain = "\"\\\n\r\t\f\b", letter = "\"\\nrtfb";
    if (const size_t known = c < 0x80 ? plain.find(static_cast<char>(c)) : std::string::npos;
        known != std::string::npos)
      (out += '\\') += letter[known];
    else if (c < 0x20 || (style.ascii && c > 0x7f && c < 0x10000)) out += hexadecimal("\\u", c, 4);
    else if (style.ascii && c >= 0x10000)
      out += hexadecimal("\\u", 0xd800 + ((c - 0x10000) >> 10), 4) +
             hexadecimal("\\u", 0xdc00 + ((c - 0x10000) & 0x3ff), 4);
    else append_code_point(out, c);
  }
  ops.grow(out, "\"");
}

}  // namespace

std::string Operations::str(const Value& v) {
  if (is_text(v)) return v.object->text;
  if (v.kind == Kind::undefined) return "";
  std::string out;
  repr(v, out);
  return out;
}

void Operations::repr(const Value& v, std::string& out) {
  const Restored<int> level(depth_, deeper());
  const auto all = [&](const char* open, const char* close, size_t step) {
    grow(out, open);
    const auto& items = v.object->items;
    for (size_t i = 0; i < items.size(); i += step) {
      if (i > 0) grow(out, ", ");
      repr(items[i], out);
      if (step == 1) continue;
      grow(out, ": ");
      repr(items[i + 1], out);
    }
    grow(out, close);
  };
  switch (v.kind) {
    case Kind::undefined: return grow(out, "Undefined");
    case Kind::none: return grow(out, "None");
    case Kind::boolean: return grow(out, v.integer ? "True" : "False");
    case Kind::integer: return grow(out, std::to_string(v.integer));
    case Kind::real: return grow(out, shown(v.real));
    case Kind::string: return grow(out, repr_text(v.object->text));
    case Kind::markup: return grow(out, "Markup(" + repr_text(v.object->text) + ")");
    case Kind::list: return all("[", "]", 1);
    case Kind::tuple: return all("(", v.object->items.size() == 1 ? ",)" : ")", 1);
    case Kind::keys: return all("dict_keys([", "])", 1);
    case Kind::values: return all("dict_values([", "])", 1);
    case Kind::items: return all("dict_items([", "])", 1);
    case Kind::dict: return all("{", "}", 2);
    case Kind::space: return all("<Namespace {", "}>", 2);
    case Kind::range: return grow(out, v.object->text);
    default:
      throw Fault{"a " + type_name(v) + " has no printable form",
                  v.kind == Kind::generator ? "put |list behind it" : ""};
  }
}

std::string Operations::escaped(const Value& v) {
  std::string plain = str(v);
  if (v.kind == Kind::markup) return plain;
  std::string out;
  for (const char c : plain) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&#34;";
    else if (c == '\'') out += "&#39;";
    else out += c;
  }
  return out;
}

Value Operations::captured(std::string bytes) {
  Value value = text(std::move(bytes));
  if (autoescape_) value.kind = Kind::markup;
  return value;
}

Value Operations::joined(const std::vector<Value>& parts, const Value& between) {
  const auto is_markup = [](const Value& v) { return v.kind == Kind::markup; };
  const bool markup =
      autoescape_ && (is_markup(between) || std::any_of(parts.begin(), parts.end(), is_markup));
  const auto shown_as = [&](const Value& v) { return markup ? escaped(v) : str(v); };
  const std::string separator = shown_as(between);
  std::string out;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) grow(out, separator);
    grow(out, shown_as(parts[i]));
  }
  return markup ? captured(std::move(out)) : text(std::move(out));
}

Value Operations::format(const std::string& pattern, const Value& arguments) {
  const std::vector<Value> list =
      arguments.kind == Kind::tuple ? arguments.object->items : std::vector<Value>{arguments};
  size_t used = 0;
  std::string out;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') {
      out += pattern[i];
      continue;
    }
    Value value{Kind::absent, 0, 0, nullptr};
    if (++i < pattern.size() && pattern[i] == '(') {
      const size_t end = pattern.find(')', i);
      if (arguments.kind != Kind::dict || end == std::string::npos)
        throw Fault{"%(name) needs a mapping"};
      const Value* found =
          find(*arguments.object, with_text(Kind::string, pattern.substr(i + 1, end - i - 1)));
      if (!found) throw Fault{"the mapping lacks " + pattern.substr(i, end - i + 1)};
      value = *found;
      i = end + 1;
    }
    const Conversion conversion = conversion_at(pattern, i);
    if (conversion.type == '%') {
      out += '%';
      continue;
    }
    if (!given(value)) {
      if (used >= list.size()) throw Fault{"a format has fewer values than it needs"};
      value = list[used++];
    }
    grow(out, converted(*this, conversion, value));
  }
  const bool lenient = arguments.kind == Kind::dict || arguments.kind == Kind::list ||
                       arguments.kind == Kind::range || arguments.kind == Kind::undefined;
  if (used < list.size() && !lenient) throw Fault{"a format does not use all its values"};
  return text(std::move(out));
}

void Operations::write_json(const Value& v, const JsonStyle& style, const std::string& margin,
                            std::string& out) {
  const Restored<int> level(depth_, deeper());
  charge(1 + (is_text(v) ? v.object->text.size() / 16 : 0));
  const auto scalar = [&](const Value& value) -> std::string {
    if (value.kind == Kind::none) return "null";
    if (value.kind == Kind::boolean) return value.integer ? "true" : "false";
    if (value.kind == Kind::real && !std::isfinite(value.real))
      return std::isnan(value.real) ? "NaN" : value.real < 0 ? "-Infinity" : "Infinity";
    if (is_number(value)) return str(value);
    need_defined(value);
    throw Fault{"a " + type_name(value) + " has no JSON form"};
  };
  if (is_text(v)) return write_json_text(*this, v.object->text, style, out);
  const bool dict = v.kind == Kind::dict;
  if (!dict && v.kind != Kind::list && v.kind != Kind::tuple) return grow(out, scalar(v));
  std::vector<std::pair<Value, Value>> entries;
  for (size_t i = 0; i < v.object->items.size(); i += dict ? 2 : 1)
    entries.emplace_back(dict ? v.object->items[i] : kNone, v.object->items[dict ? i + 1 : i]);
  if (dict && style.sorted)
    std::stable_sort(entries.begin(), entries.end(),
                     [&](const auto& a, const auto& b) { return order(a.first, b.first) == -1; });
  const std::string inner = style.indent ? margin + *style.indent : "";
  grow(out, dict ? "{" : "[");
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i > 0) grow(out, style.comma);
    if (style.indent) grow(out, inner);
    if (dict) {
      if (is_text(entries[i].first))
        write_json_text(*this, entries[i].first.object->text, style, out);
      else write_json_text(*this, scalar(entries[i].first), style, out);
      grow(out, style.colon);
    }
    write_json(entries[i].second, style, inner, out);
  }
  if (style.indent && !entries.empty()) grow(out, margin);
  grow(out, dict ? "}" : "]");
}

}  // namespace inoculum::jinja
