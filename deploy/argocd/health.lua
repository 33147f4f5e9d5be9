-- Whether an object of clawlock.dev does what it says. The operator writes its conditions; Ready sums them up.
local health = {status = "Progressing", message = "The operator has not looked at it yet"}
if obj.metadata.deletionTimestamp ~= nil then
  health.message = "Being deleted"
  return health
end
if obj.status == nil or obj.status.conditions == nil then
  return health
end
if obj.status.observedGeneration ~= obj.metadata.generation then
  health.message = "The operator has not looked at the last edit yet"
  return health
end
local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end
-- What a person has to mend; everything else passes with time.
for _, kind in ipairs({"Accepted", "ResolvedRefs", "EgressIsolated"}) do
  local condition = conditions[kind]
  if condition ~= nil and condition.status == "False" then
    health.status = "Degraded"
    health.message = kind .. ": " .. (condition.message or condition.reason or "False")
    return health
  end
end
local ready = conditions["Ready"]
if ready ~= nil then
  health.message = ready.message or ready.reason or ""
  if ready.status == "True" then
    health.status = "Healthy"
  end
end
return health
